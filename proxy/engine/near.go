package engine

import "github.com/keyway-proxy/keyway/command"

// nearCache answers reads of hot keys in the place of their nodes.
type nearCache interface {
	// Note is called for each command before it begins. Its client must see what it does, and nothing
	// older than its reply.
	Note(s *Session, cmd *command.Command, a command.Args)
	// Answer answers the command that was noted last, or sends it to its node, if its key is hot.
	// isTaken is false for all other commands. done is as in Local.
	Answer(s *Session, cmd *command.Command, a command.Args, at Placement) (isTaken, done bool)
	// Fence is called for a client that has got replies of which this worker does not know.
	Fence(s *Session)
	// Size returns how many values there are, and their bytes.
	Size() (values, bytes int)
}

// NextSeq returns the number of the client's next request.
func NextSeq(s *Session) uint64 { return s.seq }

// Oldest returns the number of the client's oldest request without a reply, and when it began. has is
// false if there is none.
func Oldest(s *Session) (seq uint64, began int64, has bool) {
	r := s.line.head
	if r == nil {
		return 0, 0, false
	}
	return r.seq, r.start, true
}

// SendWitnessed sends a command with one key to its node. to gets the reply. done is as in Local.
func SendWitnessed(
	w *Worker, s *Session, cmd *command.Command, a command.Args, at Placement, to WitnessedReply,
) (done bool) {
	seq := s.seq
	done = sendByKey(w, s, cmd, a, at)
	if r := s.line.tail; s.seq != seq && r != nil && r.seq == seq && !r.done {
		r.witnessed = to
	}
	return done
}
