# shellcheck shell=bash
# Sourced: downloads packages of any Debian suite without touching the machine.
#
# A private APT state has its own source list, no installed packages and its
# own cache, so apt resolves and checks (signatures, checksums) as usual while
# nothing is installed. The machine's apt.conf.d stays in force (proxies), and
# the mirror is the one that its apt uses already.

# debian_mirror - the first archive of the machine's apt that is Debian's main
# one (not the security archive, not a third party's).
debian_mirror() {
  if [ -n "${HOLDFAST_MIRROR:-}" ]; then
    printf '%s\n' "$HOLDFAST_MIRROR"
    return
  fi
  local mirror
  mirror=$(env -u APT_CONFIG apt-get update --print-uris 2>/dev/null |
    sed -n "s|^'\(.*/debian\)/dists/.*|\1|p" | head -n 1)
  [ -n "$mirror" ] || {
    echo "fetch: apt has no Debian archive configured;" \
      "set HOLDFAST_MIRROR to one" >&2
    return 1
  }
  printf '%s\n' "$mirror"
}

# private_apt_init DIR SUITE - makes the state in DIR for SUITE ("bookworm",
# "trixie-backports"), or takes the one that is there; later private_apt_* calls
# use it.
private_apt_init() {
  local dir=$1 suite=$2 base=${2%%-*} mirror pocket pockets
  if [ -e "$dir/complete" ]; then
    export APT_CONFIG=$dir/apt.conf
    rm -f "$dir"/archives/*.deb
    return
  fi
  mirror=$(debian_mirror)
  mkdir -p "$dir"/lists/partial "$dir"/archives/partial "$dir"/empty
  : >"$dir/status"
  pockets="$base $base-updates $base-backports"
  # What is not released yet has none beside it.
  case $base in forky | sid) pockets=$base ;; esac
  for pocket in $pockets; do
    printf 'deb [arch=amd64 signed-by=%s] %s %s main\n' \
      /usr/share/keyrings/debian-archive-keyring.gpg "$mirror" "$pocket"
  done >"$dir/sources.list"
  cat >"$dir/apt.conf" <<CONF
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/empty";
Dir::Etc::preferences "$dir/empty/none";
Dir::Etc::preferencesparts "$dir/empty";
Dir::State "$dir";
Dir::State::lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
APT::Architecture "amd64";
APT::Default-Release "$suite";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
CONF
  export APT_CONFIG=$dir/apt.conf
  # An error of any list is an error, not a reason to use an older one.
  apt-get -qq -o APT::Update::Error-Mode=any update
  : >"$dir/complete"
}

# private_apt_closure PACKAGE... - downloads them with all that they depend on.
private_apt_closure() {
  apt-get -qq install --download-only --yes "$@" </dev/null
}

# private_apt_only PACKAGE... - downloads just these.
private_apt_only() {
  local dir=${APT_CONFIG%/*}
  (cd "$dir/archives" && apt-get -qq download "$@" </dev/null)
}

# private_apt_unpack DEST - unpacks everything downloaded so far into DEST. No
# maintainer script runs.
private_apt_unpack() {
  local deb dir=${APT_CONFIG%/*}
  mkdir -p "$1"
  for deb in "$dir"/archives/*.deb; do
    dpkg-deb --extract "$deb" "$1"
  done
}
