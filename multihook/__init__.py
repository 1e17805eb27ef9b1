"""multihook: multi-homed Linux kept right by small hooks that pppd, dhclient and others run.

The map of the house.  Data flows from the top of this list to its bottom, and so do imports:
a module imports only what stands below it.

For people (may use click, structlog, filelock, netifaces; hooks never import it)
    command/    one module a sub-command, and what they share: status, sync, hands (up and down),
                flush, doctor, check_config, console (root, lock, log, exit status)
    checks/     what doctor looks for, one module a theme (a new check is one function, its line
                there and in the manual): kernel, rules, numbers, sysctls, hooks, interfaces,
                managers, scripts, netfilter, links, glftpd, machine (what a check may look at)
    managers    programs that manage an interface and run no hook of ours

What a hook run is
    upgrade     a hook run while dpkg replaces the package: what was told is kept
    hook        one hook run: from what a program handed over to exit status 0
    handover    what a hook in a sandbox may not write is left to multihook.service
    intake      what hooks were told is understood, and all that is spooled is taken along
    run         one run under the lock, as a list of its phases
    account     what a run says of itself: the log, the last result
    scope       whether a run looks at the links of its events, or at everything
    notify      the process that runs the administrator's programs in notify.d
    news        what these programs are to be told, and were told last
    census      a survey of all links there are
    survey      what a run starts from: configuration, leases and kernel facts as one View
    front       foreign rules that take every packet before ours see it
    engine      desired, actual, difference; applied in an order safe at each instant, read back

What is kept right (a new feature is one module here and its line in features/__init__)
    features/   which objects should be there, and nothing else; the contract, the visible list
    features/snat     each link's translation and its guard: our nft table's chains and elements
    features/routing  each link's table with its guard, its rules, the interface group
    features/sysctls  reverse-path filter, ARP: what the kernel checks and says on a link's interface
    features/connections  what was translated to an address that has departed
    features/glftpd   each link's address in glftpd's multilink.conf
    names       rt_protos.d and rt_tables.d, so that ip(8) shows names

What is known
    discovery   leases for links that no event has told of
    links       which links there are: configured or adopted; their next hop
    leases      one record a link and family: from events, checked against the kernel
    config/     the configuration (a new key is one line in values, in multihook.toml and in the
                manual; a link's key also one in links): compiled (cached for hooks, the last
                good one), schema (the whole of it), values (every key and refusal), toml (files
                and error positions), tables (numbers, who uses which, allotment), listing (what
                is in a folder)
    sources/    what programs tell their hooks, read with care (a new source is one module here,
                its line in sources/__init__, one entry point in hooks/): pppd, ifupdown, dhclient,
                dhcpcd, dhcp (what the two clients say alike), event (what all of them make)

What keeps it safe
    record      the last result; the certificate of the last whole run
    spool       events that wait; the mark dpkg sets while it replaces the package
    lock        the one lock, and how long a hook waits for it
    codemaker   makes the table of compiled code: all of ours that a hook may import
    codetable   that table, read by a hook at once

The kinds of objects, and the doors to the kernel
    blocks      the kind of marked blocks in glftpd's files
    multilink   the format of multilink.conf and of the line that includes it
    edits       another program's file: as it is found, changed all or nothing, copied before
    kernel/     the kinds rules, routes, interfaces (group members), nfttable (what our nft table
                holds), sysctl, stale (connections); what stands in front of ours (precedence),
                links that swap tables (swaps), facts (one picture for a run), tables (in use by
                others): rules, routes, interfaces, nfttable, sysctl, stale, precedence, swaps,
                facts, tables, addresses, ruleset, nftables, nft, conntrack, words, fib, rtnetlink
    departed    the note of departed addresses whose connections have not been ended
    oldvalues   sysctls as they were before us
    kind        what a kind can do; the order of the stages
    view        what a run knows while it works: facts, what was read, the report
    repeats     warnings that come again and again, counted
    journal     one datagram to the log

What everything stands on
    files       reading and replacing small files as root
    address     addresses, prefixes and names: what is accepted from outside
    paths       where everything stands
"""

__version__ = "0.1.0"
