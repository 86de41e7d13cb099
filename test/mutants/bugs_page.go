package main

// inPage are planted in what a browser shows.
var inPage = []bug{
	{
		"a key is shown as it is", "page/format.go",
		"} else if !strconv.IsPrint(r) {", "} else if r == 0 {",
		"./page", "TestHostileTexts",
	},
	{
		"clients are sorted in one direction only", "clients/row.go",
		"k.ID, k.IsReversed = c.ID, q.IsReversed", "k.ID = c.ID",
		"./clients", "TestTopIsTheSortedBeginning",
	},
	{
		"a compressed stream of events has no head", "page/live.go",
		"		_, _ = w.Write(gzipHead) // what comes next fails, too\n", "",
		"./page", "TestFirstEventIsBounded",
	},
	{
		"who has sent KEYS is not remembered", "proxy/engine/dispatch.go",
		"	recordCaller(s, cmd)\n", "",
		"./test", "TestWhoSendsKeys",
	},
	{
		"CLIENT LIST lists all clients in one turn", "proxy/engine/worker.go",
		"n := min(len(p.sessions), PieceSize)", "n := len(p.sessions)",
		"./proxy", "TestClientListInPieces",
	},
	{
		"reads do not go by the zones that nodes say", "proxy/engine/reads.go",
		"cmp.Or(of(n.Addr), rd.zones[n.Addr])", "of(n.Addr)",
		"./test", "TestNodesSayTheirZones",
	},
	{
		"a browser that does not read keeps its place", "page/live.go",
		"writeWithin  = 5 * time.Second", "writeWithin  = time.Hour",
		"./page", "TestSlowBrowserIsDropped",
	},
	{
		"pages of other sites take the places of operators", "page/live.go",
		"	return err == nil && u.Host == r.Host", "	return err == nil || u.Host == r.Host",
		"./page", "TestOtherSitesCannotListen",
	},
	{
		"a browser may ask for the page of this machine under any name", "admin/host.go",
		"isLoopback(local.String()) && !isOwnName", "isLoopback(local.String()) && r.Host == \"\" && !isOwnName",
		"./admin", "TestNamesOfOthers",
	},
	{
		"the picture does not say what moves", "router/picture.go",
		"t.from.ids[b.Node] != a.Node {", "t.from.ids[b.Node] == None {",
		"./router", "TestSpansOfAChange",
	},
	{
		"the page does not ask for the token", "daemon/page.go",
		"len(p.of.first().cfg.Load().Admin.Tokens()) > 0", "len(p.of.first().cfg.Load().Admin.Tokens()) > 9",
		"./test/page", "TestPageActs",
	},
	{
		"a change that has not begun can be reversed, not cancelled", "page/orders.go",
		"	if s.IsPlanned {", "	if s.Epoch < 0 {",
		"./page", "TestOrdersOfAChange",
	},
	{
		"who has no token takes a change of the layout back", "admin/steer.go",
		"		process.serveOrder(mux, page, always, movesKeys, func",
		"		process.serveOrder(mux, page, ifThereAreTokens, movesKeys, func",
		"./admin", "TestPagesThatAct",
	},
	{
		"whoever asks in vain for what needs a token drives the events out", "daemon/audit.go",
		"	if d.Err == admin.ErrStranger || d.IsFrequent", "	if d.IsFrequent",
		"./test", "TestSteeringByRequests",
	},
	{
		"a pause by request lasts until it is over whatever operators say", "proxy/answers/pause.go",
		"!writesOnly)\n	} else {\n		p.end()",
		"!writesOnly)\n	} else {\n		p.begin(0, false)",
		"./test", "TestPauseByRequest",
	},
	{
		"the page keeps the keyway from stopping", "daemon/admin.go",
		"			defer context.AfterFunc(ctx, end)()\n", "",
		"./test/page", "TestPageOfARunningKeyway",
	},
	{
		"a slot is shown to go where it comes from", "topology/migrations.go",
		"		if !isLeaving {\n			of.From", "		if isLeaving {\n			of.From",
		"./topology", "TestMigrationsIn",
	},
	{
		"the picture goes on to show slots that a cluster has moved", "page/page.go",
		"	if p.drawn != t || !slices.Equal(p.moved, moved) {", "	if p.drawn != t {",
		"./page", "TestSlotsOnTheirWay",
	},
}
