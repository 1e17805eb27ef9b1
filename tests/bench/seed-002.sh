#!/bin/sh
# The eight commands of a how-to for one of two lines, typed into a script: its table, its rule, its part of table main.
# Arguments: interface, address, network, gateway, and the same of the other line; then the LAN and its interface, the table.
ip route replace 127.0.0.0/8 dev lo table "${11}"
ip route replace "$9" dev "${10}" table "${11}"
ip route replace "$3" dev "$1" src "$2" table "${11}"
ip route replace "$7" dev "$5" src "$6" table "${11}"
ip route replace default via "$4" dev "$1" table "${11}"
ip rule add from "$2" table "${11}"
ip route replace "$3" dev "$1" src "$2"
ip route replace default scope global nexthop via "$8" dev "$5" weight 1 nexthop via "$4" dev "$1" weight 1
