package main

// inPage are planted in what a browser shows.
var inPage = []bug{
	{
		"a key is shown as it is", "page/format.go",
		"} else if !strconv.IsPrint(r) {", "} else if r == 0 {",
		"./page", "TestHostileTexts",
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
		"the page keeps the keyway from stopping", "daemon/admin.go",
		"			defer context.AfterFunc(ctx, end)()\n", "",
		"./test/page", "TestPageOfARunningKeyway",
	},
}
