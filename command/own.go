package command

// own are the commands that only keyway has.
var own = []Command{{
	Name: "keyway", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow,
	Subs: []Command{
		{Name: "keyway|help", Arity: 2, Group: "server", Categories: InSlow},
		{Name: "keyway|users", Arity: 2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|status", Arity: 2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|nodes", Arity: 2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|route", Arity: -3, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|events", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|clients", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|config", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|log", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|slowlog", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|hotkeys", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|bigkeys", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|locks", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
	},
}}

// KeywayHelp describes the subcommands of KEYWAY, in the form of Redis's HELP subcommands.
var KeywayHelp = []string{
	"STATUS",
	"    Return how keyway is: its figures of the last seconds, and what is wrong.",
	"NODES",
	"    Return the nodes, and how each of them is.",
	"ROUTE <key> [<key> ...]",
	"    Return the node of each key, and why it is there.",
	"EVENTS [COUNT <count>] [KIND <kind>]",
	"    Return what has changed, the newest first. Default count: 20.",
	"CLIENTS [COUNT <count>] [BY <column>]",
	"    Return the clients of all threads, those with the most commands first. Default count: 100.",
	"HOTKEYS [COUNT <count>] [BY commands|reads|writes|bytes]",
	"    Return the keys that clients of this keyway have used most in the last seconds, and who uses them.",
	"    Default count: 10.",
	"BIGKEYS [COUNT <count>]",
	"    Return the keys whose values or replies had bigkeys.over bytes or more, the largest first.",
	"    Default count: 100.",
	"SLOWLOG [COUNT <count>]",
	"    Return the slow log, the latest first, with the node of each command, and how long it waited in keyway and",
	"    for the node. Default count: 10.",
	"LOCKS [COUNT <count>] [MATCH <pattern>]",
	"    Return the locks that clients hold or wait for, those with waiters first.",
	"    Default count: 100. keyway knows only of the commands that it has carried itself.",
	"USERS",
	"    Return what the clients of each user do, and what limits make them wait for.",
	"CONFIG [<pattern>]",
	"    Return the running configuration, without passwords.",
	"LOG [debug|info|warn|error|file]",
	"    Return or set the level of the log, until the file has another one or keyway restarts.",
	"    Setting it needs a user with a password, or a token at the console.",
}
