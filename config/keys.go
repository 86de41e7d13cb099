package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// key is what a reader and the checks need to know about one key of the file. Its type
// and its default come from Config and Default.
type key struct {
	path    string // [] stands for an index, NAME for a node's name
	meaning string
	change  string // when to change it

	// The bounds of a number, a duration or a size, both included, and what to write
	// instead of a value beyond them. Without a remedy there are no bounds.
	min, max int64
	zero     bool // 0 is also allowed
	auto     bool // `auto` is also allowed; see AutoThreads
	remedy   string
	initial  string // the default, if it is not that of Default

	effect Effect // what a change of it in the file of a running keyway needs
	secret bool   // its value is never shown
}

const (
	hour = int64(time.Hour)
	ms   = int64(time.Millisecond)

	noMaximum = 1 << 62 // of a duration
	petabyte  = 1 << 50
)

// ofPlan is said of keys by which a change of the layout goes on.
const ofPlan = " If this file does not say, that of the new layout counts."

// keys lists every key of the file. docs/configuration.md is generated from it.
var keys = slices.Concat(firstKeys, operatorKeys, poolKeys)

// firstKeys are the keys at the beginning of the documentation.
var firstKeys = []key{
	{path: "watch", effect: AtOnce,
		meaning: "keyway reads the file again when its contents change, as it does after SIGHUP.",
		change:  "A tool writes the file and cannot send a signal."},
	{path: "log.level", effect: AtOnce,
		meaning: "What is logged: `debug`, `info`, `warn` or `error`. The flag `--log-level` wins over it.",
		change:  "You look for a cause, or the log is too long."},
	{path: "log.format", effect: AtOnce,
		meaning: "How it is logged: `text` or `json`. The flag `--log-format` wins over it.",
		change:  "A machine reads the log."},
	{path: "listen", effect: AtOnce,
		meaning: "The addresses for clients: `HOST:PORT`, `unix:///PATH` for a socket file, or `systemd:NAME` for " +
			"the sockets that systemd has opened by a `.socket` unit with `FileDescriptorName=NAME`. " +
			"One that speaks TLS is an object: `{addr: HOST:PORT, tls: {cert: FILE, key: FILE}}`, and one for " +
			"balancers has `proxy_protocol`.",
		change: "Clients connect from other machines, over a Unix socket, over TLS or through a balancer."},
	{path: "listen[].addr", effect: AtOnce, initial: "required",
		meaning: "The address, if the entry is an object.",
		change:  "With `tls` or `proxy_protocol`."},
	{path: "listen[].tls.cert", effect: AtOnce, initial: "required with `tls`",
		meaning: "The file with the certificate in PEM form, then those of its intermediate authorities. " +
			"A path that is not absolute begins at this file's directory. keyway reads the files of `tls` again " +
			"when they change. If they are broken then, it keeps the certificate that it has.",
		change: "Clients are to encrypt."},
	{path: "listen[].tls.key", effect: AtOnce, initial: "required with `tls`",
		meaning: "The file with the certificate's private key in PEM form, not encrypted.",
		change:  "With `cert`."},
	{path: "listen[].tls.client_ca", effect: AtOnce,
		meaning: "A file with the authorities that sign the clients' certificates. Without it clients need none.",
		change:  "Clients are to prove who they are by a certificate."},
	{path: "listen[].tls.client_auth", effect: AtOnce, initial: "`require`, with `client_ca`",
		meaning: "`require`: clients without a valid certificate are refused. " +
			"`optional`: only those with an invalid one.",
		change: "Clients get their certificates one after another."},
	{path: "listen[].tls.user_from", effect: AtOnce,
		meaning: "What of a client's certificate is the name of its [user](users.md#by-certificate): `cn`, the " +
			"common name, or `san`, its URIs, DNS names and e-mail addresses. The client is that user without AUTH. " +
			"Needs `client_ca`.",
		change: "Clients have certificates and should need no password."},
	{path: "listen[].tls.min_version", effect: AtOnce, initial: "`1.2`",
		meaning: "The lowest version of TLS: `1.2` or `1.3`.",
		change:  "All clients know TLS 1.3."},
	{path: "listen[].proxy_protocol.from", effect: AtOnce, initial: "required with `proxy_protocol`",
		meaning: "The addresses or networks of the balancers. Only they may connect to the listener, and each of " +
			"their connections must begin with a header of the [PROXY protocol](deploy.md#balancers), version 1 or 2.",
		change: "Clients come through a balancer, and keyway is to see their addresses."},
}

// poolKeys are the keys behind those of operators: threads, and what each pool has of its own.
var poolKeys = []key{
	{path: "threads", min: 1, max: maxThreads, auto: true, remedy: "write a whole number from 1 to 256, or auto",
		meaning: "How many event loops serve clients. Each has its own clients, and its own connections to the nodes." +
			" `auto`: one for each processor that the process may use, also by its control group.",
		change: "One core is not enough. Use at most as many as there are cores."},
	{path: "layout", effect: IfNothingMoves,
		meaning: "How keys are placed: `slots`, `ring`, `range` or `modulo`.",
		change:  "Choose it once: a change moves no keys."},
	{path: "hash_tag", effect: IfNothingMoves,
		meaning: "Two characters. If a key contains both, only the text between them places it. Empty: no tags. " +
			"Used by `ring`, `range` and `modulo`; `slots` and `cluster.emulate` need `{}`.",
		change: "Keys were placed by twemproxy with another tag, or with none."},
	{path: "nodes", effect: IfNothingMoves,
		meaning: "The Redis servers of `ring`, `range`, `modulo` and of `slots.static`.",
		change:  "Always, unless a cluster is followed."},
	{path: "nodes[].name", effect: IfNothingMoves, initial: "required",
		meaning: "The node's name in rules, logs and metrics. `ring` places keys by it.",
		change:  "Choose it once: on a ring, another name moves the node's keys."},
	{path: "nodes[].addr", effect: AtOnce, initial: "required, unless `sentinel` is given",
		meaning: "The node's address, `HOST:PORT`.",
		change:  "The server has moved. Its keys stay with the name."},
	{path: "nodes[].weight", effect: IfNothingMoves, initial: "`1`",
		meaning: "The node's share of the keys on `ring` and `modulo`, relative to the others: 1 to 1000000.",
		change:  "A node has more memory than others. A change moves no keys."},
	{path: "nodes[].replicas", effect: AtOnce,
		meaning: "The addresses of the node's replicas. Sentinels report them by themselves.",
		change:  "`reads` should use them."},
	{path: "nodes[].username", effect: AtOnce, initial: "that of `backend`",
		meaning: "The user for this node and its replicas (ACL). A node with one of `username`, `password`, " +
			"`password_file` and `password_command` uses nothing of `backend` for them. Not for a cluster that " +
			"keyway follows: its nodes share their users.",
		change: "The nodes have different users or passwords."},
	{path: "nodes[].password", effect: AtOnce, secret: true, initial: "that of `backend`",
		meaning: "The password for this node. `\"\"`: it needs none, although others do.",
		change:  "The nodes have different passwords. Write `${NAME}` and keep it in the environment."},
	{path: "nodes[].password_file", effect: AtOnce,
		meaning: "As `backend.password_file`, for this node.",
		change:  "A secret is mounted as a file."},
	{path: "nodes[].password_command", effect: AtOnce, secret: true,
		meaning: "As `backend.password_command`, for this node.",
		change:  "The node takes tokens that expire."},
	{path: "nodes[].password_refresh", effect: AtOnce, initial: "`10m`",
		meaning: "As `backend.password_refresh`, for this node's command.",
		change:  "Its tokens expire sooner."},
	{path: "nodes[].tls", effect: AtOnce, initial: "that of `backend`",
		meaning: "TLS for this node alone, instead of `backend.tls`, with the same keys. `false`: no TLS.",
		change:  "The nodes get TLS one after another."},
	{path: "nodes[].sentinel.master", effect: AtOnce, initial: "required",
		meaning: "The name of the master among the sentinels.",
		change:  "Sentinels monitor this node."},
	{path: "nodes[].sentinel.addrs", effect: AtOnce, initial: "required",
		meaning: "The addresses of all sentinels.",
		change:  "A sentinel was added or removed."},
	{path: "nodes[].sentinel.username", effect: AtOnce,
		meaning: "The user for the sentinels themselves.",
		change:  "The sentinels have an ACL."},
	{path: "nodes[].sentinel.password", effect: AtOnce, secret: true,
		meaning: "The password for the sentinels themselves.",
		change:  "The sentinels have a password."},
	{path: "nodes[].sentinel.password_file", effect: AtOnce,
		meaning: "As `backend.password_file`, for the sentinels themselves.",
		change:  "A secret is mounted as a file."},
	{path: "nodes[].sentinel.password_command", effect: AtOnce, secret: true,
		meaning: "As `backend.password_command`, for the sentinels themselves.",
		change:  "The sentinels take tokens that expire."},
	{path: "nodes[].sentinel.password_refresh", effect: AtOnce, initial: "`10m`",
		meaning: "As `backend.password_refresh`, for the sentinels' command.",
		change:  "Their tokens expire sooner."},
	{path: "nodes[].sentinel.tls", effect: AtOnce, initial: "that of the node",
		meaning: "TLS for the sentinels themselves, with the same keys as `backend.tls`. `false`: no TLS.",
		change:  "The sentinels have no TLS, or other certificates."},
	{path: "slots.seeds", effect: IfNothingMoves,
		meaning: "Some nodes of a Redis Cluster. keyway learns all others from them, and follows the cluster.",
		change:  "Name at least two, on different machines."},
	{path: "slots.cluster", effect: IfNothingMoves,
		meaning: "A name for the cluster of the seeds. Seeds do not tell one cluster from another, since they change " +
			"while a cluster stays the same; this name does.",
		change: "The layout changes [from one cluster to another](operations.md#from-one-cluster-to-another)."},
	{path: "slots.static.NAME", effect: IfNothingMoves,
		meaning: "The slots of a standalone node: `0-5460`, or `0-99,200`. Every slot needs a node.",
		change:  "You want standalone nodes that share the slots."},
	{path: "ring.hash", effect: IfNothingMoves,
		meaning: "The hash of the layout `ring`.",
		change:  "Keys were placed by twemproxy: its default is `fnv1a_64`."},
	{path: "range.rules[].prefix", effect: IfNothingMoves,
		meaning: "With a prefix, the rule is about the number right after it. Without one, it is about the whole key.",
		change:  "Keys contain a number that places them."},
	{path: "range.rules[].from", effect: IfNothingMoves, initial: "required",
		meaning: "The lower end, which belongs to the rule.",
		change:  "A range should begin elsewhere. A change moves no keys."},
	{path: "range.rules[].to", effect: IfNothingMoves, initial: "required with `prefix`",
		meaning: "The upper end. It belongs to the rule if there is a prefix, and does not if there is none.",
		change:  "A range should end elsewhere. A change moves no keys."},
	{path: "range.rules[].node", effect: IfNothingMoves, initial: "required",
		meaning: "The name of the node that has these keys.",
		change:  "You have moved the keys yourself."},
	{path: "range.default", effect: IfNothingMoves,
		meaning: "The node for keys that no rule matches. Without it, a gap between rules is an error of the file, " +
			"and a command for another unmatched key is an error for the client.",
		change: "Not all keys follow the rules."},
	{path: "modulo.hash", effect: IfNothingMoves,
		meaning: "The hash of the layout `modulo`.",
		change:  "Keys were placed by twemproxy with another hash."},
	{path: "instance", effect: AtOnce, initial: "host name and port",
		meaning: "The name of this keyway. Its connections to the nodes are called `keyway:INSTANCE:eEPOCH:HASH`; " +
			"the hash covers all that decides where keys go.",
		change: "Host names say nothing, as in containers."},
	{path: "placement.misplaced", effect: AtOnce,
		meaning: "What keyway does if more than 1 % of a node's keys lie on another node than the layout says, " +
			"so that clients do not find them, or if another keyway serves a node by another placement. " +
			"`refuse`: it does not start. `allow`: it starts, and reports it. " +
			"`off`: it does not look. Not for a cluster that keyway follows.",
		change: "The nodes are a cache, and a change of layout may lose sight of its keys: `allow`."},
	{path: "placement.next", effect: AtOnce,
		meaning: "A configuration file with another layout. keyway counts the commands that it would refuse with " +
			"CROSSSLOT, for `keyway plan` and `keyway_next_layout_crossslot_total`. Only multi-key commands cost " +
			"more. A path that is not absolute begins at this file's directory. With `watch`, the file is read " +
			"again when it changes.",
		change: "You prepare a change of layout."},
	{path: "switch.auto", effect: AtOnce,
		meaning: "When the files of all keyways have another layout than the one in force, keyway begins to " +
			"[change it while clients run](operations.md#change-the-layout-while-clients-run), as `keyway switch` " +
			"does. One keyway does so, whose file needs this; so write it into all.",
		change: "A tool writes the files, and nobody should have to call `keyway switch`."},
	{path: "switch.hold", effect: AtOnce, min: 50 * ms, max: 10 * int64(time.Second),
		remedy: "write a duration such as 1s",
		meaning: "How long commands wait at most, at the moment of a change of the layout to that of this file, for " +
			"commands that are in flight. keyway tries three times. Then the outcome of those that are still in " +
			"flight is unknown to their clients. Below `backend.request_timeout`, or commands that wait get an error.",
		change: "Slow commands are common, and their clients cannot bear an unknown outcome, or no pause."},
	{path: "switch.rate", effect: AtOnce, min: 0, max: 1 << 30,
		remedy: "write a number of keys per second, or 0 for no limit",
		meaning: "How many keys that clients do not use move in a second at most, while the layout changes to that " +
			"of this file. 0: no limit. `keyway switch --rate` and `keyway rate` win over it.",
		change: "The nodes have other work to do."},
	{path: "switch.latency", effect: AtOnce, min: ms / 10, max: noMaximum, zero: true,
		remedy: "write a duration such as 2ms, or 0 for none",
		meaning: "Fewer keys move while 1 % of a node's answers to PING take longer than this, and than twice " +
			"what is usual. 0: never. `keyway switch --latency` and `keyway rate` win over it.",
		change: "The nodes are always slower, or may get slower while keys move."},
	{path: "switch.batch", effect: AtOnce, min: 1, max: 10_000,
		remedy: "write a number of keys, such as 100",
		meaning: "How many keys that clients do not use move at once, and 2.5 KB for each; at a low rate as many as " +
			"may move in 10 ms, but 10 at least. Their new node executes nothing else meanwhile." + ofPlan,
		change: "Nodes are far away, and keys move too slowly: more. Clients must not wait a millisecond: fewer."},
	{path: "switch.durable", effect: AtOnce,
		meaning: "When a key counts as moved. `auto`: if keyway knows of replicas of its new node, one of them " +
			"must have it before the former node loses it. `strict`: so in any case, and a replica " +
			"of the former node must have lost it, too, before a client's command runs. Nodes without a " +
			"replica in step are then refused, if keys move from or to them. `off`: nobody waits for replicas. " +
			"[What that costs](operations.md#when-a-node-fails-while-keys-move)." + ofPlan,
		change: "What a failover loses or brings back: no key may come back that clients have deleted: `strict`. The " +
			"nodes are a cache: `off`."},
	{path: "switch.big.over", effect: AtOnce, min: 64 << 10, max: petabyte,
		remedy: "write a size such as 32mb",
		meaning: "Keys that take more memory than this, by MEMORY USAGE, are big: both of their nodes stop while " +
			"such a key moves." + ofPlan,
		change: "Shorter pauses matter, or longer ones do not."},
	{path: "switch.big.how", effect: AtOnce,
		meaning: "When big keys move that clients do not use. `last`: after all others, so `keyway pause` can put " +
			"that off. `now`: like others. `refuse`: `keyway plan` and `keyway switch` look at every key, and the " +
			"layout does not change while there are any. One that comes later moves last." + ofPlan,
		change: "Clients cannot bear a pause: `refuse`."},
	{path: "switch.remember", effect: AtOnce, min: 1000, max: 1 << 30,
		remedy: "write a number of keys, such as 1048576",
		meaning: "How many keys each thread remembers, while the layout changes, of which their former nodes have " +
			"said that they do not have them. For another one it asks again. A key takes up to 100 bytes.",
		change: "Clients use more keys in turn: more. Memory is short: fewer."},
	{path: "reads", effect: AtOnce,
		meaning: "Where commands that only read go: `master`, `prefer-replica`, `replica` or `nearest`.",
		change:  "Replicas should share the load, and clients tolerate values as old as `replicas.max_lag`."},
	{path: "replicas.max_lag", effect: AtOnce, min: 100 * ms, max: hour, zero: true,
		remedy:  "write a duration from 100ms to 1h, or 0 for no bound",
		meaning: "How old the data of a replica may be. `0`: however old.",
		change:  "Reads must be fresher, or may be older."},
	{path: "replicas.opt_in", effect: AtOnce,
		meaning: "Only clients that have sent READONLY read from replicas.",
		change:  "Some clients tolerate old values, others do not."},
	{path: "replicas.zone", effect: AtOnce,
		meaning: "The zone of this keyway. Reads that a replica may serve then go to one in the same zone, if there " +
			"is one.",
		change: "Traffic between zones is slow or costs money. `${ZONE:-}` takes it from the environment."},
	{path: "replicas.zones.NAME", effect: AtOnce,
		meaning: "The nodes that are in the zone NAME: a list of networks (`10.0.1.0/24`) and of patterns of " +
			"addresses or hosts (`redis-a-*`). Other nodes are asked: Valkey from version 8 on has " +
			"`availability-zone`.",
		change: "`replicas.zone` is set, and the nodes do not say their zones."},
	{path: "backend.username", effect: AtOnce,
		meaning: "The user for the nodes (ACL).",
		change:  "The nodes have an ACL."},
	{path: "backend.password", effect: AtOnce, secret: true,
		meaning: "The password for the nodes.",
		change:  "The nodes have a password. Write `${NAME}` and keep it in the environment."},
	{path: "backend.password_file", effect: AtOnce,
		meaning: "A file whose first line is the password for the nodes, instead of `password`. " +
			"A path that is not absolute begins at this file's directory. It is read again when it changes.",
		change: "A secret is mounted as a file."},
	{path: "backend.password_command", effect: AtOnce, secret: true,
		meaning: "A program and its arguments. It prints the password for the nodes, in one line, within 10 s; see " +
			"[Passwords that expire](deploy.md#passwords-that-expire). keyway runs it without a shell. A program " +
			"with a slash that is not absolute begins at this file's directory.",
		change: "The nodes take tokens that expire, as those of clouds do, or the password is in a vault."},
	{path: "backend.password_refresh", effect: AtOnce, min: int64(time.Second), max: 24 * hour, zero: true,
		remedy:  refreshRemedy,
		meaning: "How long after a run `password_command` runs again. `0`: only when a node refuses the password.",
		change:  "Set it below the time that a token is valid."},
	{path: "backend.tls", effect: AtOnce, initial: "`false`",
		meaning: "keyway speaks TLS with the nodes and with sentinels: an object with the keys below, or `true` for " +
			"the authorities that the system trusts. Of a cluster it uses the ports that it announces for TLS. " +
			"See [TLS to the nodes](deploy.md#tls-to-the-nodes).",
		change: "The network between keyway and the nodes is not trusted, or they demand TLS."},
	{path: "backend.tls.ca", effect: AtOnce, initial: "those that the system trusts",
		meaning: "A file with the authorities that sign the nodes' certificates, in PEM form. A path that is not " +
			"absolute begins at this file's directory. keyway reads the files of `tls` again when they change. " +
			"If they are broken then, it keeps what it has.",
		change: "The nodes' certificates are signed by an authority of your own."},
	{path: "backend.tls.cert", effect: AtOnce,
		meaning: "A file with the certificate that keyway shows to nodes, then its intermediate authorities'.",
		change:  "The nodes demand one (`tls-auth-clients yes`, the default of Redis)."},
	{path: "backend.tls.key", effect: AtOnce, initial: "required with `cert`",
		meaning: "The file with the certificate's private key in PEM form, not encrypted.",
		change:  "With `cert`."},
	{path: "backend.tls.server_name", effect: AtOnce, initial: "the host of the node's address",
		meaning: "The name that the nodes' certificates must have.",
		change:  "The certificates have a name, and the nodes are known by their IP addresses."},
	{path: "backend.tls.insecure_skip_verify", effect: AtOnce, initial: "`false`",
		meaning: "keyway accepts any certificate, so a stranger between it and a node can read all.",
		change:  "Only to try something."},
	{path: "backend.connect_timeout", effect: AtOnce, min: ms, max: int64(1000 * time.Second),
		remedy:  "write a duration from 1ms to 16m40s, such as 1s",
		meaning: "How long a connection to a node may take to open, the TLS handshake included.",
		change:  "Nodes are far away."},
	{path: "backend.request_timeout", effect: AtOnce, min: ms, max: int64(10_000 * time.Second),
		remedy:  "write a duration from 1ms to 2h46m40s, such as 6s",
		meaning: "How long a node may be silent while it owes a reply. The time that a transfer takes does not count.",
		change: "A hanging node must be noticed sooner. Below 5 s, commands fail behind a slow script " +
			"that Redis would finish."},
	{path: "backend.hold", effect: AtOnce, max: hour, initial: "the same as `request_timeout`",
		remedy:  "write a duration up to 1h, such as 20s, or 0s for not at all",
		meaning: "How long commands wait for the successor of a dead master. `0s`: they fail at once.",
		change: "A failover takes longer: set it above `cluster-node-timeout` and some seconds, " +
			"and clients' timeouts above it."},
	{path: "backend.connections", effect: AtOnce, min: 1, max: 64, remedy: "write a whole number from 1 to 64",
		meaning: "Shared connections to each node, for each thread.",
		change:  "Seldom: one connection carries what one thread can send."},
	{path: "backend.exclusive", effect: AtOnce, min: 1, max: 1 << 20,
		remedy: "write a whole number from 1 to 1048576, such as 1000",
		meaning: "How many connections to each node, for each thread, may belong to one client alone: " +
			"for WATCH, WAIT, blocking commands, CLIENT TRACKING and large values.",
		change: "More clients block at a time, or the nodes' `maxclients` is lower."},
	{path: "backend.integrity", effect: AtOnce, max: 1 << 30,
		remedy:  "write a number of commands up to 1073741824, such as 1000, or 0 for never",
		meaning: "After how many commands on a connection keyway checks that replies match requests. `0`: never.",
		change:  "Seldom."},
	{path: "clients.password", effect: AtOnce, secret: true,
		meaning: "The password of the default user (AUTH). Of a list each is valid. Empty: none is needed, " +
			"unless `users` say otherwise.",
		change: "Others can reach keyway's address, or a password is replaced: then list both."},
	{path: "clients.password_file", effect: AtOnce,
		meaning: "A file with a valid password in each line, instead of `password`. " +
			"A path that is not absolute begins at this file's directory. It is read again when it changes.",
		change: "A secret is mounted as a file."},
	{path: "users[].name", effect: AtOnce, initial: "required",
		meaning: "The name of a user, as in AUTH; see [Users](users.md). `default` is the user of clients " +
			"that have not authenticated.",
		change: "Clients should have different rights."},
	{path: "users[].acl", effect: AtOnce, secret: true,
		meaning: "The user's rules in Redis's ACL language, such as `on #HASH ~app:* +@read`. " +
			"Without rules the user is off and may do nothing.",
		change: "The user needs a password and rights."},
	{path: "users[].prefix", effect: AtOnce,
		meaning: "keyway puts it in front of all keys and channels of the user, and takes it out of replies; see " +
			"[A prefix for each team](users.md#a-prefix-for-each-team). No prefix may begin with another.",
		change: "Teams share the nodes and must not see each other's keys."},
	{path: "users[].scripts", effect: AtOnce,
		meaning: "A user with a `prefix` may run scripts and functions. " +
			"A script can use any key, also those of others.",
		change: "The user's scripts are known to use only their `KEYS`."},
	{path: "users[].max_clients", effect: AtOnce, initial: "none",
		meaning: "How many clients may be this user at a time, over all threads; see " +
			"[Limits of a user](users.md#limits-of-a-user). More get `ERR max number of clients reached`.",
		change: "One team must not use up `clients.max`."},
	{path: "users[].max_in_flight", effect: AtOnce, initial: "none",
		meaning: "How many commands of the user's clients may be under way at a time. Others wait. " +
			"Commands that block do not count.",
		change: "One team must not fill the queues of the nodes."},
	{path: "users[].rate.commands", effect: AtOnce, initial: "none",
		meaning: "How many commands the user's clients may send in a second, such as `10000/s`. Others wait.",
		change:  "One team must not take the processors from the others."},
	{path: "users[].rate.bytes", effect: AtOnce, initial: "none",
		meaning: "How many bytes the commands of the user's clients and the replies may have in a second, such as " +
			"`50mb/s`. Others wait.",
		change: "One team must not take the network from the others."},
	{path: "users[].rate.burst", effect: AtOnce, initial: "`1s`",
		meaning: "How long the user saves what it does not use of `rate`, from 1ms to 1m. " +
			"After that it may use so much at once.",
		change: "Short peaks should pass, or must not."},
	{path: "users[].rate.max_wait", effect: AtOnce, initial: "`1s`",
		meaning: "How long a client's next command waits for `rate`, from 1ms to 1h. " +
			"After that the client gets an error, and the command is not executed.",
		change: "Clients have shorter timeouts, or should rather wait."},
	{path: "users[].deny", effect: AtOnce,
		meaning: "Commands that the user may not send, whatever `acl` and ACL SETUSER say, " +
			"such as `keys` or `config|set`.",
		change: "A command could harm others, and the user's rules are in another hand."},
	{path: "users[].database", effect: AtOnce,
		meaning: "The database in which clients begin as the user; see " +
			"[A database for each user](users.md#a-database-for-each-user). SELECT still works, " +
			"if the rules allow it. The nodes must have it. A reload changes it for clients that authenticate later.",
		change: "The application cannot SELECT, or must not have to."},
	{path: "users[].reads", effect: AtOnce, initial: "that of the file",
		meaning: "Where commands of the user that only read go, instead of `reads`; see " +
			"[Reads of a user](users.md#reads-of-a-user).",
		change: "Reports should read from replicas and the application from masters, or the other way round."},
	{path: "users_file", effect: AtOnce,
		meaning: "A file with a user in each line, as Redis's `aclfile` has them. Then `users` has only their other " +
			"settings, by name, and no `acl`. " +
			"A path that is not absolute begins at this file's directory. It is read again when it changes.",
		change: "Redis has such a file, or the users are mounted as a file."},
	{path: "auth",
		meaning: "Who knows the users of clients. `keyway`: they are those of `users`. `passthrough`: they are those " +
			"of the nodes, whose rules hold; see [The nodes' users](users.md#the-nodes-users).",
		change: "The nodes have ACL users already, and each client should have the rights of its user."},
	{path: "protected_mode", effect: AtOnce,
		meaning: "While the default user needs no password, clients of other machines are refused, as by Redis. " +
			"Connections over loopback and socket files are of this machine. Clients that must have a certificate " +
			"(`client_auth: require`) are not refused.",
		change: "Clients of other machines need no password. Do that only where nobody else reaches keyway."},
	{path: "clients.allow", effect: AtOnce,
		meaning: "The addresses or networks that clients may connect from, such as `[127.0.0.0/8, 10.0.0.0/8]`. " +
			"Others are closed at once. Without it all may. Clients over a socket file always may.",
		change: "You know where clients are."},
	{path: "clients.max", effect: AtOnce, min: 1, max: 10_000_000, remedy: "write a whole number from 1 to 10000000",
		meaning: "How many clients may be connected. keyway lowers it if `ulimit -n` does not allow that many.",
		change:  "More clients connect, or memory is short."},
	{path: "clients.idle_timeout", effect: AtOnce, max: noMaximum,
		remedy: "write a duration, such as 300s, or 0s for never",
		meaning: "A client that sends nothing for so long is closed. `0s`: never. " +
			"Clients that wait, listen or monitor are not closed.",
		change: "Clients leave connections open and forget them."},
	{path: "cluster.emulate", effect: AtOnce,
		meaning: "keyway presents itself as a Redis Cluster.",
		change:  "Clients speak only to a cluster."},
	{path: "cluster.announce", effect: AtOnce, initial: "required with `emulate`",
		meaning: "The address at which clients find this keyway.",
		change:  "With `emulate`."},
	{path: "cluster.peers", effect: AtOnce,
		meaning: "The addresses at which clients find the other keyways.",
		change:  "Several keyways stand side by side."},
	{path: "slowlog.slower_than", effect: AtOnce, min: 1, max: noMaximum, remedy: "write a duration, such as 10ms",
		meaning: "SLOWLOG and LATENCY list commands that a client waited longer for.",
		change:  "The list is too long or too short. CONFIG SET can change it too, if allowed."},
	{path: "slowlog.entries", effect: AtOnce, min: 1, max: 1 << 20,
		remedy:  "write a whole number from 1 to 1048576, such as 128",
		meaning: "How many commands SLOWLOG keeps, for each thread.",
		change:  "The list is too short."},
	{path: "bigkeys.over", effect: AtOnce, min: 1 << 10, max: 4<<30 - 1,
		remedy: "write a size from 1kb to below 4gb, such as 1mb",
		meaning: "`KEYWAY BIGKEYS` and `/bigkeys` list keys of which a value of so many bytes was written, or of " +
			"which a reply had so many; see [Hot keys and big keys](operations.md#hot-keys-and-big-keys).",
		change: "The list is too long, or smaller values matter to you."},
	{path: "near_cache.enabled", effect: AtOnce,
		meaning: "keyway answers GETs of hot keys itself; see [Near cache](operations.md#near-cache).",
		change:  "Few keys have so many reads that their nodes, or the network, are the limit."},
	{path: "near_cache.one_in", effect: AtOnce, min: 2, max: 1000,
		remedy:  "write a whole number from 2 to 1000, such as 100",
		meaning: "A key is hot if one in so many commands of a thread reads it.",
		change:  "More keys, or fewer, should be answered by keyway."},
	{path: "near_cache.memory", effect: AtOnce, min: 64 << 10, max: 1 << 30,
		remedy:  "write a size from 64kb to 1gb, such as 16mb",
		meaning: "How much all values of the process may take.",
		change:  "Hot keys have large values, and there are many threads."},
	{path: "near_cache.max_value", effect: AtOnce, min: 1, max: 15 << 10,
		remedy:  "write a size up to 15kb, such as 8kb",
		meaning: "Larger values stay at the nodes.",
		change:  "Hot keys have larger values."},
	{path: "near_cache.lease", effect: AtOnce, min: 10 * ms, max: 10 * int64(time.Second),
		remedy: "write a duration from 10ms to 10s, such as 100ms",
		meaning: "How long a value may be used after keyway has asked its node for it. While a value is used, " +
			"keyway asks again in time. So no value is older, even if a node or a connection is frozen.",
		change: "Values may be older in a fault, or must not be that old."},
	{path: "locks.observe", effect: AtOnce,
		meaning: "keyway watches the locks that clients keep in Redis, for `KEYWAY LOCKS`, `/locks`, metrics " +
			"and alarms.",
		change: "You want to save the little processor time that this takes."},
	{path: "locks.patterns", effect: AtOnce,
		meaning: "Globs of keys that are locks, such as `lock:*`. Each has metrics and alarms of its own; " +
			"the first that matches counts. All other locks share the pattern `other`. At most 100.",
		change: "You want figures for each kind of lock, or locks of your own making are not recognized."},
	{path: "limits.max_bulk", effect: AtOnce, min: 1 << 10, max: 4<<30 - 1,
		remedy:  "write a size from 1kb to below 4gb, such as 512mb; no larger than the nodes' proto-max-bulk-len",
		meaning: "The largest argument of a command.",
		change:  "The nodes' `proto-max-bulk-len` differs from 512mb."},
	{path: "limits.max_args", effect: AtOnce, min: 16, max: 1<<31 - 1,
		remedy:  "write a whole number from 16 to 2147483647, such as 1048576",
		meaning: "The most arguments of a command.",
		change:  "Seldom."},
	{path: "limits.max_inline", effect: AtOnce, min: 64, max: 1 << 30,
		remedy:  "write a size from 64 bytes, such as 64kb",
		meaning: "The longest inline command, and the longest line of the protocol.",
		change:  "Seldom."},
	{path: "limits.max_request", effect: AtOnce, min: 1 << 10, max: 4<<30 - 1,
		remedy:  "write a size from 1kb to below 4gb, such as 512mb",
		meaning: "The largest command.",
		change:  "Commands with many large arguments are refused, or smaller ones should be."},
	{path: "limits.client_output", effect: AtOnce, min: 1 << 10, max: petabyte,
		remedy:  "write a size from 1kb, such as 256mb",
		meaning: "How many bytes of replies may wait for a client. Beyond that the client is closed.",
		change:  "Slow clients read large replies, or memory is short."},
	{path: "limits.memory", effect: AtOnce, min: 32 << 20, max: petabyte, zero: true,
		remedy: "write a size from 32mb, such as 1gb, or 0 for half of what the machine has",
		meaning: "The memory limit of the process. When little is left, keyway first closes the client with the most " +
			"unread replies or unfinished commands. `0`: half of the memory of the machine or the control group.",
		change: "keyway shares the machine with others, or has it alone."},
	{path: "ready", effect: AtOnce,
		meaning: "What `/readyz` needs: `any` master that can be reached, or `all` masters and slots.",
		change:  "Other keyways can reach nodes that this one cannot."},
	{path: "shutdown.delay", effect: AtOnce, max: hour, remedy: "write a duration up to 1h, such as 5s",
		meaning: "After SIGTERM, how long keyway still accepts clients while `/readyz` already fails.",
		change:  "A balancer takes time to notice: set it a little above that."},
	{path: "shutdown.drain", effect: AtOnce, max: hour, remedy: "write a duration up to 1h, such as 30s",
		meaning: "After the delay keyway accepts no new clients. It closes the others between two of their commands, " +
			"spread over this time. `0s`: as soon as possible.",
		change: "You have many clients, and their reconnects should not come all at once."},
	{path: "shutdown.upgrade", effect: AtOnce, min: ms, max: 24 * hour,
		remedy: "write a duration from 1ms to 24h, such as 1m",
		meaning: "After `keyway upgrade`, how long clients in the middle of something, such as a transaction or " +
			"BLPOP, may take until they go over to the new process. Then the old process closes them.",
		change: "Your clients block for longer than that."},
	{path: "shutdown.timeout", effect: AtOnce, min: ms, max: hour,
		remedy:  "write a duration from 1ms to 1h, such as 10s",
		meaning: "After that, how long the commands under way may take.",
		change:  "Commands take longer, or the process is killed earlier."},
	{path: "commands.allow", effect: AtOnce,
		meaning: "Commands that keyway refuses otherwise, such as `config` or `bgsave`.",
		change:  "You administer the nodes through keyway."},
	{path: "commands.deny", effect: AtOnce,
		meaning: "Commands that no client may send, such as `flushall`, `keys` or `config|set`. " +
			"They get the error `NOPERM`. Scripts and functions can still call them.",
		change: "A command could harm other clients."},
	{path: "scripts.per_key[].sha", effect: AtOnce,
		meaning: "The SHA-1 of a script that treats each of its KEYS alone. Give `sha` or `text`.",
		change:  "Such a script gets CROSSSLOT."},
	{path: "scripts.per_key[].text", effect: AtOnce,
		meaning: "The script itself. White space and comments do not matter.",
		change:  "The script has no fixed SHA-1."},
	{path: "scripts.per_key[].keys", effect: AtOnce, initial: "`1`",
		meaning: "How many KEYS belong together.",
		change:  "KEYS come in pairs, or more."},
	{path: "scripts.per_key[].argv", effect: AtOnce, initial: "all are shared",
		meaning: "Which key each ARGV belongs to: a list of `shared`, `each` and `counted`.",
		change:  "ARGV contains values of single keys."},
	{path: "scripts.per_key[].reply", effect: AtOnce, initial: "`array`",
		meaning: "`array`: the replies are arrays to join. `sum`: they are numbers to add up.",
		change:  "The script returns a number."},
	{path: "scripts.keyless", effect: AtOnce,
		meaning: "A key: scripts and functions without KEYS run on its node.",
		change:  "Such scripts write keys with a common hash tag: name that tag."},
	{path: "locks.scripts[].sha", effect: AtOnce,
		meaning: "The SHA-1 of a script that works on the lock KEYS[1]. Give `sha` or `text`; see " +
			"[Scripts of your own](locks.md#scripts-of-your-own).",
		change: "`locks.quorum` refuses a script, or `KEYWAY LOCKS` does not see it."},
	{path: "locks.scripts[].text", effect: AtOnce,
		meaning: "The script itself. White space and comments do not matter.",
		change:  "The script has no fixed SHA-1."},
	{path: "locks.scripts[].does", effect: AtOnce, initial: "required",
		meaning: "`acquire`: sets the lock if it is free. `renew`: sets the lease if the lock has the token. " +
			"`release`: deletes the lock if it has the token. `ask`: changes nothing.",
		change: "Say what the script does."},
	{path: "locks.scripts[].token", effect: AtOnce, initial: "`1`",
		meaning: "The number of the ARGV with the token, which is the lock's value.",
		change:  "It is another ARGV."},
	{path: "locks.scripts[].lease", effect: AtOnce, initial: "required to acquire and renew",
		meaning: "The number of the ARGV with the lease.",
		change:  "Say which ARGV it is."},
	{path: "locks.scripts[].unit", effect: AtOnce, initial: "`ms`",
		meaning: "The unit of the lease: `ms` or `s`.",
		change:  "The script sets the lease with EX or EXPIRE."},
	{path: "locks.scripts[].again", effect: AtOnce, initial: "`false`",
		meaning: "A client that has the lock can acquire it again, and sets a new lease.",
		change:  "The script compares the token before it gives up."},
	{path: "locks.scripts[].done", effect: AtOnce, initial: "`1`",
		meaning: "What the script returns when it has done it: a whole number, `OK` (as SET) or `nil` (also for " +
			"`false`). With `ask` also `lease`: the milliseconds that are left.",
		change: "It returns something else."},
	{path: "locks.scripts[].other", effect: AtOnce, initial: "`0`",
		meaning: "What it returns when another has the lock.",
		change:  "It returns something else."},
	{path: "locks.scripts[].none", effect: AtOnce, initial: "that of `other`",
		meaning: "What it returns when nobody has the lock.",
		change:  "It returns something else."},
	{path: "locks.quorum[].match", effect: AtOnce, initial: "required",
		meaning: "A pattern, as in KEYS. The keys that match are locks, which a majority of `nodes` holds; see " +
			"[Locks on a majority of nodes](locks.md#locks-on-a-majority-of-nodes).",
		change: "A lock must survive the death of its node."},
	{path: "locks.quorum[].nodes", effect: AtOnce, initial: "required",
		meaning: "The addresses of 3, 5 or 7 standalone Redis servers, none of which is in the layout.",
		change:  "A server has moved. Change one at a time, and wait for `max_lease` in between."},
	{path: "locks.quorum[].username", effect: AtOnce, initial: "that of `backend`",
		meaning: "The user for the nodes (ACL). A rule with one of `username`, `password`, `password_file` and " +
			"`password_command` uses nothing of `backend` for them.",
		change: "The nodes have users of their own."},
	{path: "locks.quorum[].password", effect: AtOnce, secret: true, initial: "that of `backend`",
		meaning: "The password for the nodes. `\"\"`: they need none, although those of the layout do.",
		change:  "The nodes have another password. Write `${NAME}` and keep it in the environment."},
	{path: "locks.quorum[].password_file", effect: AtOnce,
		meaning: "A file whose first line is the password for the nodes, instead of `password`. It is read again " +
			"when it changes.",
		change: "A secret is mounted as a file."},
	{path: "locks.quorum[].password_command", effect: AtOnce, secret: true,
		meaning: "As `backend.password_command`, for these nodes.",
		change:  "The nodes take tokens that expire."},
	{path: "locks.quorum[].password_refresh", effect: AtOnce, initial: "`10m`",
		meaning: "As `backend.password_refresh`, for the command of these nodes.",
		change:  "Their tokens expire sooner."},
	{path: "locks.quorum[].tls", effect: AtOnce, initial: "that of `backend`",
		meaning: "TLS for the nodes, with the same keys as `backend.tls`. `false`: no TLS.",
		change:  "These nodes have no TLS, or other certificates."},
	{path: "locks.quorum[].timeout", effect: AtOnce, initial: "`50ms`",
		meaning: "A node that sends nothing for so long, although it has to, counts as absent; from 1ms to 10s. " +
			"A node that answers other commands is busy: commands wait for it.",
		change: "The round trip to the nodes is longer."},
	{path: "locks.quorum[].drift", effect: AtOnce, initial: "`0.01`",
		meaning: "By which part of a lease two clocks may differ when it ends. So much of a lease must be left, and " +
			"2 ms, when the nodes have answered.",
		change: "The clocks of the nodes are better, or worse."},
	{path: "locks.quorum[].max_lease", effect: AtOnce, initial: "`1m0s`",
		meaning: "The longest lease that clients may ask for, from 1s to 24h. A node that has restarted does not " +
			"vote for so long, nor does a new node.",
		change: "Clients ask for longer leases."},
	{path: "locks.quorum[].fencing", effect: AtOnce, initial: "`false`",
		meaning: "Each acquisition gets a number that is higher than that of the holder before. `GET KEY:fence` " +
			"returns it.",
		change: "What the lock protects can refuse writes with an old number."},
}

// checkNumbers checks the bounds of all numbers, durations and sizes.
func (c *Config) checkNumbers() error {
	for _, k := range keys {
		if k.remedy == "" {
			continue
		}
		v := fieldAt(reflect.ValueOf(c).Elem(), k.path).Int()
		if v == 0 && k.zero || v == int64(AutoThreads) && k.auto {
			continue
		}
		if v < k.min || v > k.max {
			return c.Errorf(k.path, k.remedy, "out of range")
		}
	}
	return nil
}

// fieldAt returns the field of v that path names.
func fieldAt(v reflect.Value, path string) reflect.Value {
	for name := range strings.SplitSeq(path, ".") {
		field, ok := fieldOf(reflect.Indirect(v), name)
		if !ok {
			panic(fmt.Sprintf("config: the table of keys has %s, which Config does not have", path))
		}
		v = field
	}
	return v
}
