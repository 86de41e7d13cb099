package overview

import (
	"time"

	"github.com/keyway-proxy/keyway/metrics"
)

// Loss is what keyway only counts while it goes on, such as log lines that cannot be written.
type Loss struct {
	Problem        // while the count rises
	Count   uint64 // since keyway started
}

// losing is how long a loss is a problem after its count has risen. Some are tried again for half a minute.
const losing = time.Minute

// losses are the losses and when their counts have risen, in the order in which they were told.
type losses []struct {
	Loss
	risen time.Time
}

// add takes in what is counted by now.
func (all *losses) add(told []Loss, at time.Time) {
	if len(*all) != len(told) {
		*all = make(losses, len(told))
		for i := range told {
			(*all)[i].Loss = told[i]
		}
	}
	for i := range told {
		if of := &(*all)[i]; told[i].Count > of.Count {
			of.risen = at
			of.Loss = told[i]
		}
	}
}

// problems returns the problems of the losses that go on.
func (all losses) problems(at time.Time) (problems []Problem) {
	for i := range all {
		if of := &all[i]; !of.risen.IsZero() && at.Sub(of.risen) < losing {
			problems = append(problems, of.Problem)
		}
	}
	return problems
}

// refusedClients returns the loss that the threads count themselves.
func refusedClients(of *metrics.Counters) Loss {
	return Loss{Count: of.Rejected, Problem: Problem{Severity: Bad,
		Text: "new clients are refused, because clients.max is reached",
		Help: "keyway clients says who is connected; end connections that are not needed, or raise clients.max"}}
}
