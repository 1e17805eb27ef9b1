#!/bin/sh
# The script of a how-to that looks every five minutes whether a PPP line has another address, for one line that has;
# what it asked ifconfig it asks ip. Arguments: interface, table, priority. Without the sending of the address by ssh.
DIGITS="[0-9]\{1,3\}"
IP="$DIGITS\.$DIGITS\.$DIGITS\.$DIGITS"
DATE=$(date +"%F %r")
DEVICE1=$1
LOGFILE1="/var/log/check_${DEVICE1}"
CURRENT_IP1=$(ip addr show "$DEVICE1" | sed -n "s/.*inet \($IP\) .*/\1/p")
# shellcheck disable=SC2002  # as in the original
if [ -e "$LOGFILE1" ]; then
    LAST_IP1=$(cat "$LOGFILE1" | grep "$IP" | tail -1 | sed -n "s/.*\ \(.*\)/\1/p")
fi
if [ "x$LAST_IP1" != "x$CURRENT_IP1" ]; then
    echo "$DATE $CURRENT_IP1" >>"$LOGFILE1"
    ip rule del from "$LAST_IP1" pri "$3" table "$2"
    ip rule add from "$CURRENT_IP1" pri "$3" table "$2"
    GATEWAY1=$(ip addr show "$DEVICE1" | sed -n "s/.*peer \($IP\).*/\1/p")
    ip route add "$GATEWAY1" dev "$DEVICE1" table "$2"
    ip route add default via "$GATEWAY1" dev "$DEVICE1" table "$2"
    iptables -t nat -D POSTROUTING 1
    iptables -t nat -A POSTROUTING -o "$DEVICE1" -j SNAT --to-source="$CURRENT_IP1"
fi
