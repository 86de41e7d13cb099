package pool

// Stats counts what happened to a connection. It belongs to its thread.
type Stats struct {
	Dials       uint64 // connections begun
	Failures    uint64 // connections that could not be made, or were refused in greeting
	Losses      uint64 // ready connections that ended
	Timeouts    uint64 // requests whose reply did not come in time
	Late        uint64 // replies that came after their request had timed out or been abandoned
	Unsolicited uint64 // replies that nobody waited for
	Violations  uint64 // connections ended since the node broke the protocol
	Fences      uint64 // checks that replies are in step
	BytesIn     uint64
	BytesOut    uint64
}
