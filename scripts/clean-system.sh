# Functions to make and enter clean Debian systems, for scripts/test-package and scripts/test-matrix; sourced, as root for all but sources_to.
#
# The caller sets SUITE (the Debian release), CACHE (where systems are kept between runs) and work (an empty directory), and defines a function
# no_clean_system REASON, which is called if no such system can be made and must not return. MIRROR is the mirror of Debian.
# shellcheck shell=sh disable=SC2154

# shellcheck source=/dev/null
this_suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")

say() { echo "== $*"; }

can_separate() { unshare --net --pid --mount --fork --kill-child true 2>/dev/null; }

# sources_to DIRECTORY
sources_to() {
    mkdir -p "$1"
    git -c safe.directory="$PWD" ls-files --cached --others --exclude-standard -z | tar --create --null --files-from - | tar --extract -C "$1"
}

# The mirror from which this machine gets its own Debian, if there is one: it has other suites too.
mirror_of_this_machine() {
    # shellcheck disable=SC2016  # for apt-get to fill in
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' "Codename: $this_suite" 2>/dev/null | head -n 1
}

# clean_system DIRECTORY
clean_system() {
    mirror=${MIRROR:-$(mirror_of_this_machine)}
    mirror=${mirror:-http://deb.debian.org/debian}
    say "clean system: $SUITE from $mirror"
    eval "$(apt-config shell proxy Acquire::http::Proxy)"
    http_proxy=${proxy:-${http_proxy:-}}
    export http_proxy
    debootstrap --variant=minbase "$SUITE" "$1" "$mirror" >"$work/root.log" 2>&1 || {
        tail -n 5 "$work/root.log" >&2
        no_clean_system "debootstrap failed (is $mirror reachable? name another with MIRROR=)"
    }
}

# in_system DIRECTORY COMMAND ...
in_system() {
    root=$1
    shift
    DEBIAN_FRONTEND=noninteractive chroot "$root" "$@" </dev/null >"$work/root.log" 2>&1 || {
        tail -n 5 "$work/root.log" >&2
        no_clean_system "the packages that gmproxy needs cannot be fetched"
    }
}

# keep DIRECTORY NAME: save it for the next run, and remove those of earlier runs.
keep() {
    mkdir -p "$CACHE"
    rm -f "$CACHE/${2%-*}"-*.tar
    tar --create --file "$CACHE/$2.tar.new" --exclude ./proc/* --exclude ./dev/pts/* -C "$1" .
    mv "$CACHE/$2.tar.new" "$CACHE/$2.tar"
}

# kept NAME DIRECTORY: restore what keep has saved. Fails if there is none.
kept() {
    [ -e "$CACHE/$1.tar" ] || return 1
    mkdir "$2"
    tar --extract --file "$CACHE/$1.tar" -C "$2"
}

# Makes the system in which packages of the suite are built: $work/builder.
have_builder() {
    name=$SUITE-builder-$(sha256sum debian/control | cut -c 1-12)
    kept "$name" "$work/builder" && return
    clean_system "$work/builder"
    sources_to "$work/builder/build/gmproxy"
    in_system "$work/builder" apt-get install -y -qq --no-install-recommends build-essential fakeroot
    in_system "$work/builder" sh -c 'cd /build/gmproxy && apt-get build-dep -y -qq --no-install-recommends .'
    rm -rf "$work/builder/build"
    keep "$work/builder" "$name"
}

# in_builder [NAME=VALUE ...] COMMAND ...: run it in the builder, in /build/gmproxy: without network, with terminals, and with a root that is a mount
# point, which tests that mount need.
in_builder() {
    # shellcheck disable=SC2016  # for the shell inside
    unshare --net --pid --mount --fork --kill-child sh -c '
        root=$1
        shift
        mount --bind "$root" "$root" && mount -t proc proc "$root/proc" && mount -t tmpfs tmpfs "$root/dev/shm" &&
            mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts" && ip link set lo up &&
            exec env -i PATH="$PATH" HOME=/build LANG=C.UTF-8 chroot "$root" env -C /build/gmproxy "$@"' - "$work/builder" "$@"
}
