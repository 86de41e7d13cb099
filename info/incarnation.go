package info

// incarnationPart is how many hexadecimal digits of an identifier Incarnation has.
const incarnationPart = 16

// Incarnation returns what tells a process of Redis that has been the master of its data without a break from all
// others, out of its reply to INFO server replication. It is another one after a restart, and after a failover to or
// from the node, any of which may bring back what was deleted before. It is empty if text does not say it.
func Incarnation(text []byte) string {
	run, data := Field(text, "run_id"), Field(text, "master_replid")
	if Field(text, "role") != "master" || len(run) < incarnationPart || len(data) < incarnationPart {
		return ""
	}
	return run[:incarnationPart] + data[:incarnationPart]
}
