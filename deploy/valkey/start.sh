#!/bin/sh
# One user, who may do all but administer the server. Its password comes over standard input: everybody can read a command line.
set -eu
umask 077
exec valkey-server - --appendonly yes --save "" --maxmemory 256mb --maxmemory-policy volatile-lru "$@" <<EOF
user default off
user commerce on >${REDISCLI_AUTH:?} ~* &* +@all -@admin -@dangerous +info
EOF
