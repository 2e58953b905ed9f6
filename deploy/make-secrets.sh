#!/bin/sh
# Makes the secret files that compose.yaml and compose.postgres.yaml mount, with random values, in deploy/secrets (or in
# the directory given). A file that is there already is left as it is, so running it again is safe.
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

# The directory keeps other users of this machine out. The files themselves are readable: each is mounted alone into a
# container, whose user is not their owner here.
mkdir -p -- "$directory"
chmod 0700 -- "$directory"
umask 0022

make mandato "$(random)"                # replace it with the secret that Mandato shows
make operator_token "$(random)"         # Prometheus and people send it to the operator server
make example_app "whsec_$(random)"      # signs what the gateway sends to the example app
make store_password "$(random)"          # of the user gatehouse in compose.postgres.yaml's database
