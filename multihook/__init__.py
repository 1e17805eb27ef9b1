"""multihook: multi-homed Linux kept right by small hooks that pppd, dhclient and others run.

The map of the house.  Data flows from the top of this list to its bottom, and so do imports:
a module imports only what stands below it.

What a hook run is
    hook        one hook run: from what a program handed over to exit status 0
    run         one run under the lock: spool -> survey -> engine -> records -> log
    survey      what a run starts from: configuration, leases and kernel facts as one View
    engine      desired, actual, difference; applied in an order safe at each instant, read back

What is kept right (a new feature is one module here and one line in features/__init__)
    features/            the contract, the order of stages, the visible list
    features/routing     each link's table with its guard, its rules, the interface group

What is known
    links       which links there are: configured or adopted; their next hop
    leases      one record a link: from events, checked against the kernel
    sources/    what programs tell their hooks, read with care: pppd, dhclient (a new source is
                one module here, one entry point in hooks/)
    config/     the configuration: compiled (cached, for hooks), schema (every key and refusal),
                toml (files and error positions), tables (numbers: who uses which, allotment)

What keeps it safe
    lock        the one lock
    spool       events that wait; the mark dpkg sets while it replaces the package
    image       the hot path's compiled code in one piece
    record      the last result; the certificate of the last whole run
    names       rt_protos.d and rt_tables.d, so that ip(8) shows names
    repeats     warnings that come again and again, counted
    journal     one datagram to the log
    files       reading and replacing small files as root
    address     addresses, prefixes and names: what is accepted from outside
    paths       where everything stands

The doors to the kernel
    kernel/     rtnetlink (the socket), routes, rules, addresses, interfaces, tables (in use by
                others), facts (one picture for a run)

Beside it, for people (may use click, structlog, filelock, netifaces; hooks never import it)
    command/    one module a sub-command: status, sync, up and down, flush, check-config
"""

__version__ = "0.1.0"
