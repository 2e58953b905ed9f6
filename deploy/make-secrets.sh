#!/bin/sh
# Creates the secret files that compose.yaml and compose.postgres.yaml mount. The values are random. The files are in
# deploy/secrets, or in the directory given as an argument. The script does not change existing files, so you can run it
# again.
set -eu
directory=${1:-$(dirname -- "$0")/secrets}

random() {
    head -c 32 /dev/urandom | base64 | tr -d '\n'
}

make() {
    if [ ! -e "$directory/$1" ]; then
        printf '%s\n' "$2" > "$directory/$1"
        echo "made $directory/$1"
    fi
}

# Other users of this machine cannot open the directory. The files themselves are readable for everyone, because Compose
# mounts each of them into a container whose user does not own it.
mkdir -p -- "$directory"
chmod 0700 -- "$directory"
umask 0022

make mandato "$(random)"                # replace it with the secret that Mandato shows
make operator_token "$(random)"         # Prometheus and operators send it to the operator listener
make example_app "whsec_$(random)"      # signs the requests to the example app
make store_password "$(random)"         # password of the database user in compose.postgres.yaml
