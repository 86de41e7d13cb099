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
		{Name: "keyway|locks", Arity: -2, Group: "server", Flags: Admin, Categories: InAdmin | InDangerous | InSlow},
	},
}}
