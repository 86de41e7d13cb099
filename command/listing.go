package command

import (
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Listing has the options of a command that lists what keyway knows, such as KEYWAY LOCKS.
type Listing struct {
	Count int    // rows at most
	By    string // what comes first
	Match []byte // a glob; nil: all
}

// Listable says which options such a command takes.
type Listable struct {
	Count, Most int      // rows without COUNT, and the most that COUNT can ask for
	By          []string // what BY can name, that without BY first; nil: there is no BY
	HasMatch    bool     // there is MATCH
}

// Parse reads the options behind the name of the command. text is an error for the client.
func (of *Listable) Parse(options [][]byte) (l Listing, text string) {
	l.Count = of.Count
	if of.By != nil {
		l.By = of.By[0]
	}
	for len(options) > 0 {
		if len(options) == 1 {
			return l, syntaxError
		}
		name, value := options[0], options[1]
		options = options[2:]
		switch {
		case EqualFold(name, "count"):
			n, ok := resp.ParseInt(value)
			if !ok || n < 1 {
				return l, "ERR count should be greater than 0"
			}
			l.Count = int(min(n, int64(of.Most)))
		case EqualFold(name, "match") && of.HasMatch:
			l.Match = append([]byte{}, value...)
		case EqualFold(name, "by") && of.By != nil:
			l.By = strings.ToLower(string(value))
			if !slices.Contains(of.By, l.By) {
				return l, "ERR BY must be one of " + strings.Join(of.By, ", ")
			}
		default:
			return l, syntaxError
		}
	}
	return l, ""
}

const syntaxError = "ERR syntax error"

// Options returns copies of the arguments from a position on.
func Options(a Args, from int) (all [][]byte) {
	for i := from; i < a.Len(); i++ {
		all = append(all, slices.Clone(a.Arg(i)))
	}
	return all
}
