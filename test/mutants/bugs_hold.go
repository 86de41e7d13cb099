package main

// inHold are planted in what keyways and commands do before and after a change of the layout is decided.
var inHold = []bug{
	{
		"a keyway holds commands for an epoch that is decided", "switching/member.go",
		"	case last.Decision == register.Go: // the home", "	case false: // the home",
		"./test/sim", "TestHoldOfADecidedEpoch",
	},
	{
		"a hold ends only if the keyway that follows the change ends it", "proxy/pull/hold.go",
		"	if p.heldUntil != 0 && p.w.Now >= p.heldUntil {", "	if p.heldUntil != 0 && p.w.Now < 0 {",
		"./test/sim", "TestHoldEnds",
	},
	{
		"a hold ends with any table that a keyway takes", "proxy/pull/part.go",
		"	if p.heldIn != w.Options.Backend.Epoch {", "	if isNew {",
		"./proxy", "TestHoldOutlivesReload",
	},
	{
		"a decided change waits for who has decided it", "switching/member.go",
		"	if time.Since(m.decided) < helpAfter {", "	if true {",
		"./test/sim", "TestHoldOfADecidedEpoch",
	},
	{
		"a hold ends although the change is decided", "switching/member.go",
		"		if m.holding {\n			m.hold(", "		if false {\n			m.hold(",
		"./test/sim", "TestHoldGoesOnWhenDecided",
	},
	{
		"a change that is planned ends the hold of the one that is decided", "switching/member.go",
		"			if c.Epoch > m.tried && !c.Done {", "			if false {",
		"./switching", "TestDecidedBeforePlanned",
	},
	{
		"keyways help before the home says that the change is decided", "switching/member.go",
		"	case last.Decision == register.Go: // the home",
		"	case last.Holds > 0 && last.Entered == nil: // the home",
		"./test/sim", "TestHoldEnds",
	},
	{
		"a change begins although keys lie on other nodes than the old layout says", "reshard/switch.go",
		"		if !before.Clean() {", "		if before == nil {",
		"./test", "TestStraysStopASwitch",
	},
}
