#!/bin/bash
# A script for servers with several cards by DHCP, as it has gone round for years, for one card; its commands and their
# order are the original's. Arguments: interface, number of its table.
device=$1 inc=$2
ml_conf=/etc/multilink.conf gl_conf=/etc/glftpd.conf gl_temp=/etc/glftpd.temp
{
    echo "255 local"
    echo "254 main"
    echo "253 default"
    echo "0 unspec"
    echo "#"
} >/etc/iproute2/rt_tables
{
    echo
    echo "ifip 10.* 192.168.*"
    echo "elseip"
    echo
} >$ml_conf
iproute2=$(command -v ip)
octet=1 counter=0 metric=0
# shellcheck disable=SC2034,SC2002  # quad1..quad4 are used below, by their number; cat as in the original
{
    netmask=$(grep NETMASK "/etc/dhcpc/dhcpcd-$device.info" | awk -F = '{print $NF}')
    gateway=$(grep GATEWAY "/etc/dhcpc/dhcpcd-$device.info" | awk -F = '{print $NF}')
    network=$(grep NETWORK "/etc/dhcpc/dhcpcd-$device.info" | awk -F = '{print $NF}')
    ip=$(grep IPADDR "/etc/dhcpc/dhcpcd-$device.info" | awk -F = '{print $NF}')
    quad1=$(echo "$netmask" | cut -d. -f1)
    quad2=$(echo "$netmask" | cut -d. -f2)
    quad3=$(echo "$netmask" | cut -d. -f3)
    quad4=$(echo "$netmask" | cut -d. -f4)
}
while [ $octet -le 4 ]; do
    quad=quad$octet
    case ${!quad} in
        255) counter=8 ;;
        254) counter=7 ;;
        252) counter=6 ;;
        248) counter=5 ;;
        240) counter=4 ;;
        224) counter=3 ;;
        192) counter=2 ;;
        128) counter=1 ;;
        0) counter=0 ;;
    esac
    metric=$((metric + counter))
    octet=$((octet + 1))
done
echo "$inc Nic$inc" >>/etc/iproute2/rt_tables
{
    echo "active_addr $ip"
    echo "pasv_addr $ip"
    echo
} >>$ml_conf
$iproute2 rule add from "$ip" lookup "Nic$inc"
$iproute2 rule add to "$ip" lookup "Nic$inc"
$iproute2 route flush table "Nic$inc"
$iproute2 route add "$ip" dev "$device" scope link table "Nic$inc"
$iproute2 route add "$network/$metric" dev "$device" proto kernel scope link src "$ip" table "Nic$inc"
$iproute2 route add default via "$gateway" dev "$device" table "Nic$inc"
echo "include $ml_conf" >$gl_temp
# shellcheck disable=SC2002
cat $gl_conf | grep -v $ml_conf >>$gl_temp
cp $gl_conf $gl_conf.backup
mv $gl_temp $gl_conf
echo "endifip" >>$ml_conf
