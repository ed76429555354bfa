#!/bin/sh
# Shows what is on a topic, record by record, and ends: kcat alone (Debian: apt-get install kcat). It checks nothing.
#
#   show.sh kafka-1.example:9093 KH.agency.treasury -X security.protocol=SSL -X ssl.ca.location=ca.pem
#
# It is no member of a group and moves nobody's position.
set -eu
brokers=$1 topic=$2
shift 2
exec kcat -C -q -e -b "$brokers" -t "$topic" -o beginning -f 'partition %p position %o key %k\n%h\n%s\n\n' "$@"
