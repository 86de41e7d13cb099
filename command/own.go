package command

// own are the commands that only keyway has.
var own = []Command{{
	Name: "keyway", Arity: -2, Group: "server", Flags: Admin,
	Subs: []Command{
		{Name: "keyway|help", Arity: 2, Group: "server"},
		{Name: "keyway|locks", Arity: -2, Group: "server", Flags: Admin},
	},
}}
