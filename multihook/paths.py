"""Where everything stands on the machine; all three state folders may be lost at any time."""

ETC = "/etc/multihook"
NOTIFY = ETC + "/notify.d"

RUN = "/run/multihook"
LEASES = RUN + "/leases"
LAST = RUN + "/last"
HELD = RUN + "/held"
# Where /var/lib may not be written, by a hook of dhcpcd.service: until a run of the service may.
TABLES_FOR_NOW = RUN + "/tables"

PRIVATE = RUN + "/private"
LOCK = PRIVATE + "/lock"
SPOOL = PRIVATE + "/spool"
COMPILED = PRIVATE + "/compiled"
APPLIED = PRIVATE + "/applied"
FRONT = PRIVATE + "/front"
REPEATS = PRIVATE + "/repeats"
UPGRADING = PRIVATE + "/upgrading"
NEWS = PRIVATE + "/news"
TOLD = PRIVATE + "/told"
SYSCTLS = PRIVATE + "/sysctls"
CONNECTIONS = PRIVATE + "/connections"

VAR = "/var/lib/multihook"
TABLES = VAR + "/tables"
GLFTPD = VAR + "/glftpd"
LAST_GOOD = VAR + "/last-good.json"

RT_PROTOS = "/etc/iproute2/rt_protos.d/multihook.conf"
RT_TABLES = "/etc/iproute2/rt_tables.d/multihook.conf"

SYSCTL_IPV4 = "/proc/sys/net/ipv4"
CONNTRACK_COUNT = "/proc/sys/net/netfilter/nf_conntrack_count"
