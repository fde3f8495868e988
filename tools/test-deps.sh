#!/usr/bin/env bash
# Installs what the tests need and this machine lacks: PostgreSQL, mosquitto with its clients, Prometheus with promtool,
# Alertmanager and node_exporter, Redis, nginx, small tools, and a Python environment under target/venv that holds the ClickHouse engine and a mail server. With everything
# there it takes a fraction of a second.
set -euo pipefail
cd "$(dirname "$0")/.."

# Where Debian keeps daemons; not on every user's PATH.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

readonly POSTGRES_AT_LEAST=15
readonly VENV=target/venv
readonly REQUIREMENTS=(tests/clickhouse/requirements.txt tests/mail/requirements.txt)

fail() {
    printf 'test-deps: %s\n' "$@" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null
}

# The tests look for the server where Debian's packages put it, one folder per major version.
has_postgres() {
    local server version
    for server in /usr/lib/postgresql/*/bin/postgres; do
        version=${server#/usr/lib/postgresql/}
        version=${version%%/*}
        if [[ -x $server && $version =~ ^[0-9]+$ ]] && ((version >= POSTGRES_AT_LEAST)); then
            return 0
        fi
    done
    return 1
}

has_python_with_venv() {
    has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null
}

# Debian's packages for what is missing, one a line.
missing_packages() {
    has_postgres || echo postgresql
    has mosquitto || echo mosquitto
    has mosquitto_sub && has mosquitto_pub || echo mosquitto-clients
    has prometheus && has promtool || echo prometheus
    has prometheus-alertmanager || echo prometheus-alertmanager
    has prometheus-node-exporter || echo prometheus-node-exporter
    has redis-server || echo redis-server
    has nginx || echo nginx-light
    has ip || echo iproute2
    has unshare && has nsenter && has setpriv || echo util-linux
    has curl || echo curl
    has openssl || echo openssl
    has_python_with_venv || echo python3-venv
}

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        fail "can't install as user $(id -un) without sudo; as root, run: apt-get install ${missing[*]}"
    fi
}

# Debian starts a server as it installs it. Tests start their own on free ports, and a mosquitto on port 1883 or a node_exporter
# on 9100 would stand in the way of `utilizer up`; so a server that came with this installation is switched off again. One that was there before is
# left alone.
apt_install() {
    local apt=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq)
    echo "test-deps: installing $*"
    as_root "${apt[@]}" update || fail "apt-get update failed; see above"
    as_root "${apt[@]}" install -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install $* failed; see above"
    # RUNLEVEL=1 keeps them down where there is no systemd.
    [[ -d /run/systemd/system ]] || return 0
    local package
    for package in "$@"; do
        case $package in
        postgresql | mosquitto | prometheus | prometheus-alertmanager | prometheus-node-exporter | redis-server | nginx-light)
            as_root systemctl disable --quiet --now "${package%-light}.service"
            echo "test-deps: ${package%-light}.service is switched off; to use it: systemctl enable --now ${package%-light}"
            ;;
        esac
    done
}

install_programs() {
    mapfile -t missing < <(missing_packages)
    ((${#missing[@]})) || return 0
    if ! has apt-get; then
        fail "the tests need, in Debian's package names: ${missing[*]}" \
            "This system has no apt-get: install them by hand (PostgreSQL $POSTGRES_AT_LEAST or newer, reachable as" \
            "/usr/lib/postgresql/VERSION/bin), then run this again."
    fi
    apt_install "${missing[@]}"
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]})); then
        fail "still missing after the installation: ${missing[*]}" \
            "This release's packages may be too old (PostgreSQL $POSTGRES_AT_LEAST or newer is needed):" \
            "install them from the projects' own repositories."
    fi
}

# Each stamp is the list that was installed: a Python that is gone makes the environment anew, a changed list is installed
# over what is there.
install_python_packages() {
    "$VENV/bin/python" -c '' 2>/dev/null || {
        mkdir -p target
        python3 -m venv --clear "$VENV" || fail "can't make a Python environment in $VENV; see above"
    }
    local list stamp
    for list in "${REQUIREMENTS[@]}"; do
        stamp=${list%/*}
        stamp=$VENV/${stamp##*/}.installed
        cmp -s "$list" "$stamp" && continue
        echo "test-deps: installing $list into $VENV (the ClickHouse engine is some hundred MB, once)"
        "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$list" ||
            fail "pip can't install $list; see above (the ClickHouse engine exists for Linux and macOS on x86_64 and arm64)"
        cp "$list" "$stamp"
    done
}

install_programs
install_python_packages
