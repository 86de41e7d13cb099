package main

// inBusy are planted in what happens while a node is busy with a script, and after it.
var inBusy = []bug{
	{
		"what a node has said of a connection is forgotten while it is busy", "proxy/blocking/blocking.go",
		"b.nodeID = clientID(conn, reply)", "b.nodeID, _ = resp.Int(reply)",
		"./proxy", "TestBlockedBehindScriptIsUnblocked",
	},
	{
		"the text of a script has only the time that another script has left", "proxy/engine/script.go",
		"	c.Deadline = sc.w.Deadline()", "	_ = sc.w.Deadline()",
		"./proxy", "TestTextOfScriptHasTimeOfItsOwn",
	},
}
