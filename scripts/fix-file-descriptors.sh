#!/bin/sh
# Says whether a process, or the system, is short of file descriptors and of what goes with them, and what mends it.
# For machines that have only this script: POSIX sh, sed, ls, head, sort, uniq, df. Where tideover is installed, it is `tideover doctor` that
# checks a process, unless something is to be mended.
#
#   fix-file-descriptors.sh                     the system
#   fix-file-descriptors.sh PID                 a process
#   fix-file-descriptors.sh NAME                each process of a program of this name
#   fix-file-descriptors.sh --apply [PID|NAME]  also mends what can be mended at once: kernel parameters, soft limits (prlimit)
#
# Exit status: 0 all is OK, 1 the worst is a WARNING, 2 it is CRITICAL, 3 it could not look.
set -u

PROC=${TIDEOVER_PROC:-/proc} # for the tests
SYSCTL_FILE=${TIDEOVER_SYSCTL_FILE:-/etc/sysctl.d/90-tideover.conf}
SAMPLE=${SAMPLE:-2} # seconds

apply=no
wanted=
by_doctor=no # has tideover doctor checked the processes?
seen=        # has a process been looked into?
worst=0

usage() {
    echo "usage: ${0##*/} [--apply] [PID|NAME]" >&2
    exit 3
}

for word in "$@"; do
    case $word in
    --apply) apply=yes ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    '' | -* | */*) usage ;;
    *)
        [ -z "$wanted" ] || usage
        wanted=$word
        ;;
    esac
done

# The first line of a file, or nothing. Not by read: dash reads byte by byte, and /proc/sys gives one byte to that, and no second.
first() {
    head -n 1 "$1" 2>/dev/null
}

# say LEVEL NAME TEXT, LEVEL being 0, 1 or 2.
say() {
    case $1 in
    0) word=OK ;;
    1) word=WARNING ;;
    *) word=CRITICAL ;;
    esac
    [ "$1" -le "$worst" ] || worst=$1
    printf '%-9s %-13s %s\n' "$word" "$2" "$3"
}

mend() {
    printf '%23s > %s\n' '' "$*"
}

# The level of a part of a whole: a warning from 70 %, critical from 90 %.
level() {
    if [ "$2" -le 0 ]; then
        echo 0
    elif [ $(($1 * 10)) -ge $(($2 * 9)) ]; then
        echo 2
    elif [ $(($1 * 10)) -ge $(($2 * 7)) ]; then
        echo 1
    else
        echo 0
    fi
}

number() {
    case $1 in
    '' | *[!0-9]*) return 1 ;;
    esac
}

# Adds a line to the file that sysctl(8) reads at the start of the system; the file stays as it was if that fails. Beside it and then
# renamed: a line that a full disk cuts could set another number.
keep() {
    part=$SYSCTL_FILE.part.$$
    { [ ! -e "$SYSCTL_FILE" ] || cat "$SYSCTL_FILE"; } 2>/dev/null >"$part" && printf '%s\n' "$1" 2>/dev/null >>"$part" &&
        mv -f "$part" "$SYSCTL_FILE" && return
    rm -f "$part"
    return 1
}

# Sets a kernel parameter, now and for good, or says how.
set_parameter() {
    if [ $apply = no ]; then
        mend "sudo sysctl -w $1=$2"
        mend "for good: echo '$1 = $2' | sudo tee -a $SYSCTL_FILE"
    elif printf '%s\n' "$2" 2>/dev/null >"$PROC/sys/$(printf '%s' "$1" | tr . /)"; then
        mend "done: $1 is $2"
        if keep "$1 = $2"; then
            mend "done: and stays so by $SYSCTL_FILE"
        else
            mend "until the next start only: $SYSCTL_FILE could not be written"
        fi
    else
        mend "could not be set (root only, and not in a container): sysctl -w $1=$2"
    fi
}

# Soft and hard limit of a process.
limits() {
    sed -n 's/^Max open files *\([0-9a-z]*\) *\([0-9a-z]*\).*/\1 \2/p' "$PROC/$1/limits" 2>/dev/null
}

# How many descriptors a process has open; nothing where that may not be seen.
used() {
    [ -r "$PROC/$1/fd" ] || return 1
    set -- "$PROC/$1"/fd/*
    if [ -L "$1" ]; then echo $#; else echo 0; fi
}

open_files() {
    # shellcheck disable=SC2046 # three numbers
    set -- $(first "$PROC/sys/fs/file-nr")
    [ $# = 3 ] || return 0
    taken=$(($1 - $2))
    result=$(level $taken "$3")
    # Far beyond what any machine has memory for: no limit.
    if [ ${#3} -gt 15 ]; then
        say 0 fs.file-max "$taken open files, all processes, no limit"
    else
        say "$result" fs.file-max "$taken of $3 open files, all processes"
        [ "$result" = 0 ] || set_parameter fs.file-max $(($3 * 2))
    fi
}

# The limits of the container, cgroup v2.
container() {
    group=$(sed -n 's/^0:://p' "$PROC/${1:-self}/cgroup" 2>/dev/null)
    folder=/sys/fs/cgroup${group%/}
    for what in pids memory; do
        max=$(first "$folder/$what.max")
        now=$(first "$folder/$what.current")
        if number "$max" && number "$now"; then
            result=$(level "$now" "$max")
            say "$result" "container" "$now of $max $what"
            [ "$result" = 0 ] || mend "TasksMax= or MemoryMax= in its unit, or docker update --pids-limit, --memory"
        fi
    done
}

# Free space and inodes of the disk under a folder, that messages call $2: how full both are, in percent, by df. $3 and $4 are the percent from
# which on it is a WARNING, and CRITICAL.
disk() {
    [ -e "$1" ] || return 0
    for kind in space inodes; do
        flag=-P
        [ $kind = space ] || flag=-Pi
        # The use is the one word that ends in %.
        full=$(df "$flag" "$1" 2>/dev/null | sed -n '2s/.* \([0-9]*\)%.*/\1/p')
        number "$full" || continue
        result=0
        [ "$full" -lt "$3" ] || result=1
        [ "$full" -lt "$4" ] || result=2
        say $result "disk" "$full % of the $kind under $2 is used"
        [ $result = 0 ] || mend "what takes it: du -xah $2 | sort -h | tail -n 20"
    done
}

# Descriptors of a process by what they are, one per line.
kinds() {
    # shellcheck disable=SC2012 # names in /proc/PID/fd are numbers, and the targets are what is wanted
    ls -l "$PROC/$1/fd" 2>/dev/null | sed -n -e 's/.* -> //' -e '/^total/d' \
        -e 's/^socket:.*/socket/' -e 's/^pipe:.*/pipe/' -e 's/^anon_inode:\[*\([a-z_]*\).*/\1/' -e p | sort | uniq -c
}

raise() {
    soft=$1
    hard=$2
    if [ "$soft" != "$hard" ]; then
        if [ $apply = yes ] && command -v prlimit >/dev/null 2>&1 && prlimit --pid "$pid" --nofile="$hard:$hard"; then
            mend "done: the soft limit of process $pid is $hard"
        else
            mend "prlimit --pid $pid --nofile=$hard:$hard"
        fi
        mend "for good: LimitNOFILE=$hard under [Service] in its unit, or ulimit -n $hard before it starts"
    else
        mend "sudo prlimit --pid $pid --nofile=$((hard * 4)):$((hard * 4))"
        mend "for good: LimitNOFILE=$((hard * 4)) under [Service] in its unit, or docker run --ulimit nofile=$((hard * 4))"
    fi
}

# Process ids of the programs of a name: that of the process, which the kernel cuts to 15 bytes, or that of the file in its command line.
named() {
    short=$(printf '%.15s' "$1")
    for folder in "$PROC"/[0-9]*; do
        other=${folder##*/}
        [ "$other" != $$ ] || continue
        command=$(tr '\000' '\n' 2>/dev/null <"$folder/cmdline" | head -n 1)
        # A zombie has no command line, nor has a thread of the kernel.
        [ -n "$command" ] || continue
        if [ "${command##*/}" = "$1" ] || [ "$(first "$folder/comm")" = "$short" ]; then
            echo "$other"
        fi
    done
}

# The filesystems of the logs that a process has open, by their folders: the names that the command calls logs, too.
logs() {
    # shellcheck disable=SC2012 # as in kinds()
    ls -l "$PROC/$1/fd" 2>/dev/null | sed -n -e 's/.* -> //' -e '/^\/proc\//d' -e '/^\/dev\//d' -e '/ (deleted)$/d' \
        -e '/^\/var\/log\//p' -e '/\/logs\//p' -e '/\.log$/p' -e '/\.log\.[0-9]*$/p' -e '/_log$/p' | sed 's,/[^/]*$,,' | sort -u
}

# How many children of a process are zombies.
zombies() {
    dead=0
    for status in "$PROC"/[0-9]*/status; do
        case $(sed -n -e 's/^State:[^A-Za-z]*\(.\).*/\1/p' -e 's/^PPid:[^0-9]*//p' "$status" 2>/dev/null | tr '\n' ' ') in
        "Z $1 ") dead=$((dead + 1)) ;;
        esac
    done
    echo $dead
}

# Checks the process $pid; fails if it could not look.
examine() {
    [ -d "$PROC/$pid" ] || {
        echo "${0##*/}: there is no process $pid" >&2
        return 3
    }
    if [ $apply = no ] && [ "$PROC" = /proc ] && command -v tideover >/dev/null 2>&1; then
        tideover doctor "$pid" --sample "${SAMPLE}s"
        result=$?
        by_doctor=yes
        [ $result -lt 3 ] || return 3
        [ $result -le "$worst" ] || worst=$result
        return
    fi
    count=$(used "$pid") || {
        echo "${0##*/}: process $pid is another user's: sudo $0 $pid" >&2
        return 3
    }
    seen=yes
    name=$(first "$PROC/$pid/comm" | tr -d '[:cntrl:]')
    printf '%s (process %s), watched for %s s\n\n' "$name" "$pid" "$SAMPLE"
    # shellcheck disable=SC2046 # two numbers
    set -- $(limits "$pid")
    if number "${1:-}" && number "${2:-}"; then
        result=$(level "$count" "$1")
        say "$result" "soft limit" "$count of $1 descriptors in use"
        [ "$result" = 0 ] || raise "$1" "$2"
        say "$(level "$count" "$2")" "hard limit" "$count of $2 descriptors in use"
    fi
    before=$(kinds "$pid")
    sleep "$SAMPLE"
    # What was 3 and is 9 grew by 6; less may be chance.
    grown=$(kinds "$pid" | while read -r now what; do
        was=$(printf '%s\n' "$before" | while read -r n which; do [ "$which" != "$what" ] || echo "$n"; done)
        [ $((now - ${was:-0})) -lt 3 ] || echo "$what: grew by $((now - ${was:-0})) to $now"
    done)
    if [ -n "$grown" ]; then
        say 1 leaks "$(printf '%s' "$grown" | tr '\n' ';' | tr -d '[:cntrl:]')"
        mend "which they are: ls -l $PROC/$pid/fd; until it is mended: restart process $pid"
    else
        say 0 leaks "nothing grew in $SAMPLE s"
    fi
    deleted=$(kinds "$pid" | grep ' (deleted)$' | grep -v '/memfd:' | sed 's/^ *[0-9]* //' | tr -d '\001-\011\013-\037')
    if [ -n "$deleted" ]; then
        say 1 "deleted files" "$(printf '%s' "$deleted" | tr '\n' ' ')"
        mend "their space at once: ls -l $PROC/$pid/fd | grep deleted, then truncate -s 0 $PROC/$pid/fd/N"
    else
        say 0 "deleted files" "none is held open"
    fi
    dead=$(zombies "$pid")
    if [ "$dead" = 0 ]; then
        say 0 zombies "every child that ended was waited for"
    else
        say $((1 + (dead >= 100))) zombies "$dead children of $name have ended and were not waited for"
        mend "kill -CHLD $pid reminds it; restarting process $pid removes them"
    fi
    # Not a pipe: the worst level must reach this shell.
    while read -r folder; do
        # By the process's own root: it may be in a container.
        [ -z "$folder" ] || disk "$PROC/$pid/root$folder" "$folder" 90 97
    done <<END
$(logs "$pid")
END
    printf '\n%s descriptors:\n' "$count"
    kinds "$pid" | sort -rn | head -n 8 | tr -d '\001-\011\013-\037'
    echo
}

# Processes near their limit, and zombies, of all.
everybody() {
    near=
    dead=0
    for folder in "$PROC"/[0-9]*; do
        other=${folder##*/}
        case $(sed -n 's/^State:[^A-Za-z]*\(.\).*/\1/p' "$folder/status" 2>/dev/null) in
        Z) dead=$((dead + 1)) ;;
        '') continue ;;
        esac
        count=$(used "$other") || continue
        [ "$count" -gt 10 ] || continue
        # shellcheck disable=SC2046 # two numbers
        set -- $(limits "$other")
        number "${1:-}" || continue
        result=$(level "$count" "$1")
        [ "$result" = 0 ] || near="$near$result $other $count $1
"
    done
    if [ -z "$near" ]; then
        say 0 "near limit" "no process that may be looked into uses 70 % of its soft limit"
    fi
    # Not a pipe: the worst level must reach this shell.
    while read -r result other count soft; do
        [ -n "$result" ] || continue
        say "$result" "near limit" "$(first "$PROC/$other/comm" | tr -d '[:cntrl:]') (process $other): $count of $soft"
        mend "${0##*/} --apply $other"
    done <<END
$near
END
    if [ $dead -ge 10 ]; then
        say 1 zombies "$dead; their parents should wait(2) for them"
        mend "ps -eo stat,ppid,pid,comm | grep ^Z"
    else
        say 0 zombies "$dead"
    fi
}

pids=
blind=no
case $wanted in
'') ;;
*[!0-9]*)
    pids=$(named "$wanted")
    [ -n "$pids" ] || {
        echo "${0##*/}: no process is called $wanted; ps -e has the names" >&2
        exit 3
    }
    ;;
*) pids=$wanted ;;
esac
for pid in $pids; do
    examine || blind=yes
done
# What doctor has checked, or nobody could look into, is all.
if [ -n "$pids" ] && { [ $by_doctor = yes ] || [ -z "$seen" ]; }; then
    [ $blind = no ] || [ "$worst" = 2 ] || exit 3
    exit "$worst"
fi
if [ -z "$pids" ]; then
    printf 'This system\n\n'
    # shellcheck disable=SC3045 # -S and -H are in dash, busybox and bash
    soft=$(ulimit -S -n) hard=$(ulimit -H -n)
    result=0
    if number "$hard" && [ "$hard" -lt 4096 ]; then result=1; fi
    say $result "limits here" "what is started from here gets $soft, at most $hard; fs.nr_open is $(first "$PROC/sys/fs/nr_open")"
    [ $result = 0 ] || mend "for a service: LimitNOFILE=524288 under [Service] in its unit; docker run --ulimit nofile=524288"
    [ $result = 0 ] || mend "for logins: echo '* hard nofile 524288' | sudo tee /etc/security/limits.d/90-tideover.conf"
    everybody
fi
open_files
for pid in ${pids:-self}; do
    container "$pid"
done
for parameter in max_user_instances max_user_watches; do
    value=$(first "$PROC/sys/fs/inotify/$parameter")
    number "$value" || continue
    case $parameter in
    max_user_instances) enough=128 ;;
    *) enough=65536 ;;
    esac
    if [ "$value" -lt $enough ]; then
        say 1 inotify "fs.inotify.$parameter is only $value"
        set_parameter "fs.inotify.$parameter" $((enough * 8))
    else
        say 0 inotify "fs.inotify.$parameter is $value"
    fi
done
disk /var/log /var/log 95 99
[ $blind = no ] || [ "$worst" = 2 ] || exit 3
exit "$worst"
