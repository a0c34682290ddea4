# Functions for scripts that take programs from Debian's packages; $cache is where these are kept.

# The package $1, unpacked to $2. What static programs of glibc cannot do is to look up names: so
# BusyBox is the one with libraries.
unpack() {
    local deb
    deb=$(find "$cache" -name "$1_*.deb" | head -n 1)
    if [ -z "$deb" ]; then
        (cd "$cache" && apt-get -qq -o APT::Sandbox::User=root download "$1")
        deb=$(find "$cache" -name "$1_*.deb" | head -n 1)
    fi
    dpkg-deb -x "$deb" "$2"
}
# The libraries of the program $1, below $2.
libraries() {
    ldd "$1" | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$2${library%/*}"
        cp -L "$library" "$2$library"
    done
}
