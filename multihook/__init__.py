"""multihook: multi-homed Linux kept right by small hooks that pppd, dhclient and others run.

The map of the house.  Data flows from the top of this list to its bottom, and so do imports:
a module imports only what stands below it.

For people (may use click, structlog, filelock, netifaces; hooks never import it)
    command/    one module a sub-command, and what they share: status, sync, hands (up and down),
                flush, doctor, check_config, console (root, lock, log, exit status)
    checks/     what doctor looks for, one module a theme (a new check is one function, its line
                there and in the manual): kernel, rules, numbers, sysctls, hooks, interfaces,
                managers, scripts, netfilter, links, glftpd, machine (what a check may look at)
    managers    who manages an interface and tells us nothing

What a hook run is
    upgrade     a hook run while dpkg replaces the package: what was told is kept
    hook        one hook run: from what a program handed over to exit status 0
    handover    what a hook in a sandbox may not write is left to multihook.service
    run         one run under the lock: spool -> survey -> engine -> news -> records -> log
    notify      the process that runs the administrator's programs in notify.d; nobody waits for it
    news        what these programs are to be told, and were told last
    survey      what a run starts from: configuration, leases and kernel facts as one View
    front       foreign rules that take every packet before ours see it
    engine      desired, actual, difference; applied in an order safe at each instant, read back

What is kept right (a new feature is one module here and one line in features/__init__)
    features/   the contract, the order of stages, the visible list
    features/snat     each link's translation and its guard: elements of our nft table
    features/ruleset  the text of that table: its chains never change with a link
    features/routing  each link's table with its guard, its rules, the interface group
    features/sysctls  reverse-path filter, ARP: what the kernel checks and says on a link's interface
    features/connections  what was translated to an address that is gone
    features/glftpd   each link's address in glftpd's multilink.conf
    names       rt_protos.d and rt_tables.d, so that ip(8) shows names

What is known
    links       which links there are: configured or adopted; their next hop
    leases      one record a link: from events, checked against the kernel
    config/     the configuration (a new key is one line in schema, in multihook.toml and in the
                manual; a link's key also one in links): compiled (cached for hooks, the last
                good one), schema (every key and refusal), toml (files and error positions),
                tables (numbers, who uses which, allotment)
    sources/    what programs tell their hooks, read with care (a new source is one module here,
                its variables in sources/__init__, one entry point in hooks/): pppd, ifupdown,
                dhclient, dhcpcd, dhcp (what the two clients say alike)

What keeps it safe
    record      the last result; the certificate of the last whole run
    spool       events that wait; the mark dpkg sets while it replaces the package
    lock        the one lock, and how long a hook waits for it
    imaging     makes the image: all of ours that a hook may import, and what of it is seldom needed
    image       the hot path's compiled code in one piece

The doors to the kernel and to the log
    kernel/     one kind of message each: facts (one picture for a run), tables (in use by
                others), routes, rules, addresses, interfaces, nftables, nft (the program, for
                rules), conntrack, sysctl (files in /proc/sys), rtnetlink (the socket)
    repeats     warnings that come again and again, counted
    journal     one datagram to the log

What everything stands on
    files       reading and replacing small files as root
    address     addresses, prefixes and names: what is accepted from outside
    paths       where everything stands
"""

__version__ = "0.1.0"
