#!/bin/sh
# A nightly export whose disk is full for a while: it waits instead of leaving half a file.  usage: examples/cron.sh [without]
# Needs root, or `unshare -rm`, for a disk of its own.
#
# The line in the crontab; the job below runs in cron's environment:
#   30 2 * * *  tideover run --on-full wait --full-wait 2h -- /usr/local/bin/export /srv/backup/export.csv
set -eu
if [ "${NAMESPACE:-}" != own ]; then
    NAMESPACE=own exec unshare -m sh "$0" "$@"
fi
guard="${TIDEOVER:-tideover} run --on-full wait --full-wait 2m --"
[ "${1:-}" != without ] || guard=

work=$(mktemp -d)
trap 'umount "$work/disk"; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/disk"
mount -t tmpfs -o size=1m tmpfs "$work/disk"
head -c 900k /dev/zero >"$work/disk/yesterday"
seq 1 100000 >"$work/rows" # 575 KiB

(
    # Somebody, or logrotate, makes room as soon as the job has filled the disk.
    until df --output=avail "$work/disk" | grep -qx ' *0'; do sleep 0.1; done
    sleep 1
    rm "$work/disk/yesterday"
) &
janitor=$!

status=0
env -i PATH="$PATH" SHELL=/bin/sh HOME=/ sh -c "$guard cp $work/rows $work/disk/export.csv" || status=$?
wait "$janitor"
echo "the job's exit status is $status, and $(wc -l <"$work/disk/export.csv") of 100000 rows are in its file"
[ "$status" = 0 ] && cmp "$work/rows" "$work/disk/export.csv"
