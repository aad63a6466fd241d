#!/bin/sh
# Entrypoint for images: runs "$@" with libtideover.so preloaded, or without it and with the reason.
#
#   COPY libtideover.so /usr/local/lib/
#   COPY docker-entrypoint.sh /usr/local/bin/
#   ENTRYPOINT ["docker-entrypoint.sh"]
#   CMD ["nginx", "-g", "daemon off;"]
#
# The library is preloaded only after the loader of this image was seen to load it: a preload that doesn't load is an error line
# in every program of glibc, and the end of every program of musl. The loader is asked with --list, which runs nothing. Plain
# POSIX sh and four tools (dd, tr, sed, grep), which busybox has, too.
#
#   TIDEOVER_LIB      the library's path; otherwise it is looked for beside this script and in the usual folders
#   TIDEOVER_DISABLE  1: run "$@" and nothing else
#   TIDEOVER_LOG      off: no reasons
set -u

say() { [ "${TIDEOVER_LOG:-}" = off ] || printf 'tideover: %s\n' "$*" >&2; }

if [ $# = 0 ]; then
    say "docker-entrypoint.sh needs a command: set CMD in the image, or give one to docker run"
    exit 2
fi

# The loader that a program names in its first 4 KiB; nothing for a static one.
loader_of() {
    dd if="$1" bs=4096 count=1 2>/dev/null | LC_ALL=C tr '\0' '\n' |
        LC_ALL=C sed -n '/^\/[[:print:]]*\/ld[-.][[:print:]]*$/{p;q;}'
}

# Where exec finds a program. Not `command -v`, which knows builtins.
find() (
    case $1 in */*) printf '%s\n' "$1" && exit ;; esac
    IFS=:
    for folder in $PATH; do
        [ -x "${folder:-.}/$1" ] && [ -f "${folder:-.}/$1" ] && printf '%s\n' "${folder:-.}/$1" && exit
    done
    exit 1
)

# The program that a script is for, also behind env; any other file itself. A script that names none is the shell's.
behind() {
    file=$1
    for _ in 1 2 3 4; do
        case $(dd if="$file" bs=4 count=1 2>/dev/null | LC_ALL=C tr '\0' '\n') in
        '#!'* | ?ELF) ;;
        *) file=/bin/sh ;;
        esac
        line=$(dd if="$file" bs=256 count=1 2>/dev/null | LC_ALL=C tr '\0' '\n' | LC_ALL=C sed -n '1s/^#![[:blank:]]*//p')
        # shellcheck disable=SC2086 # the words of the line
        set -- $line
        [ $# != 0 ] || break
        file=$1
        [ "${1##*/}" = env ] || continue
        shift
        for word; do
            case $word in
            -S?*) word=${word#-S} ;;
            -* | *=*) continue ;;
            esac
            file=$(find "$word") || file=$word
            break
        done
    done
    printf '%s\n' "$file"
}

# Does the loader $1 load the library beside the program $2? If not, $why says why.
loads() {
    why=
    told=$(LD_PRELOAD=$library "$1" --list "$2" 2>&1) || why="$1 cannot load it"
    case $told in
    *"$library ("* | *"$library =>"*) ;;
    *) why="$1 did not load it (is it for this architecture?)" ;;
    esac
    [ -n "$why" ] || return 0
    first=$(printf '%s\n' "$told" | grep -Ei 'error|not found' | sed -n '1p')
    why=${first:-$why}
    return 1
}

# Runs the program in any case; why it has no library was said.
plainly() {
    say "$1 runs without libtideover.so: $why"
    exec "$@"
}

[ "${TIDEOVER_DISABLE:-0}" != 1 ] || exec "$@"

library=${TIDEOVER_LIB:-}
if [ -z "$library" ]; then
    case $0 in */*) here=$(cd "${0%/*}" && pwd) ;; *) here=/usr/local/bin ;; esac
    for library in "$here" "${here%/*}/lib" /usr/local/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /tideover; do
        library=$library/libtideover.so
        [ ! -f "$library" ] || break
    done
fi
why="$library is missing; copy it into the image, or set TIDEOVER_LIB to its full path"
[ -f "$library" ] || plainly "$@"
why="the path $library has a blank, a colon or a \$, which LD_PRELOAD cannot express"
case $library in *[[:space:]:\$]*) plainly "$@" ;; esac
why="this image lacks dd, tr, sed or grep to look with"
{ command -v dd && command -v tr && command -v sed && command -v grep; } >/dev/null 2>&1 || plainly "$@"

program=$(find "$1") || exec "$@" # the shell says best that it is not there
program=$(behind "$program")
loader=$(loader_of "$program")
if [ -n "$loader" ]; then
    loads "$loader" "$program" || plainly "$@"
else
    # A static init (tini, gosu, s6) may start programs that are not static: is there a loader for those?
    why="$program is statically linked, and nothing else here has a loader; raise its limit instead: docker run --ulimit nofile=..."
    for loader in /lib64/ld-linux-*.so.* /lib/ld-linux-*.so.* /lib/ld-musl-*.so.*; do
        [ ! -f "$loader" ] || break
    done
    [ -f "$loader" ] || plainly "$@"
    loads "$loader" "$library" || plainly "$@"
    say "$program is statically linked: libtideover.so acts only in what it starts"
fi

export LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}"
exec "$@"
