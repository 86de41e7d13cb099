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
		{Name: "keyway|config", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|log", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|slowlog", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|hotkeys", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|bigkeys", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
		{Name: "keyway|locks", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
	},
}}

// ConsoleHelp describes what is about more than the threads know of KEYWAY, in the form of Redis's HELP
// subcommands.
var ConsoleHelp = []string{
	"STATUS",
	"    Return how keyway is: its figures of the last seconds, and what is wrong.",
	"NODES",
	"    Return the nodes, and how each of them is.",
	"ROUTE <key> [<key> ...]",
	"    Return the node of each key, and why it is there.",
	"EVENTS [COUNT <count>]",
	"    Return what has changed, the newest first. Default count: 20.",
	"CONFIG [<pattern>]",
	"    Return the running configuration, without passwords.",
	"LOG [debug|info|warn|error|file]",
	"    Return or set the level of the log, until the file has another one or keyway restarts.",
	"    Setting it needs a user with a password, or a token at the console.",
}
