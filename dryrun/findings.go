package dryrun

import (
	"cmp"
	"slices"
	"time"
)

// Findings are what routers have counted.
type Findings struct {
	Commands uint64   `json:"commands"` // that were answered meanwhile, of all kinds
	Parted   []Parted `json:"crossslot"`
	// Keyless is how many scripts and functions without KEYS have run. Nobody can see which
	// keys they use. Scripts are some of their SHA-1s or names.
	Keyless uint64   `json:"keyless_scripts"`
	Scripts []string `json:"keyless_names"`
}

// Parted is a command that clients have sent with keys that would live apart.
type Parted struct {
	Command  string    `json:"command"`
	Count    uint64    `json:"count"`
	Last     time.Time `json:"last"`
	Examples []Example `json:"examples"` // with different keys, the first ones
}

// Example is one such command.
type Example struct {
	Keys   []string  `json:"keys"`             // two of its keys, each cut to 64 bytes
	Script string    `json:"script,omitempty"` // the SHA-1 of the script, or the function's name
	Client string    `json:"client"`           // its address
	Name   string    `json:"client_name,omitempty"`
	Time   time.Time `json:"time"`
}

// Findings returns a copy of what the router has counted. calls is how many commands the
// worker has answered so far.
func (r *Router) Findings(calls uint64) Findings {
	f := Findings{
		Commands: calls - r.calls, Parted: []Parted{}, Keyless: r.keyless.count, Scripts: slices.Clone(r.keyless.names),
	}
	for _, p := range r.parted {
		if p.Count > 0 {
			one := *p
			one.Examples = slices.Clone(p.Examples)
			f.Parted = append(f.Parted, one)
		}
	}
	return f
}

// Sum adds up findings. The commands that were counted most come first.
func Sum(all ...Findings) Findings {
	sum := Findings{Parted: []Parted{}, Scripts: []string{}}
	for _, f := range all {
		sum.Commands += f.Commands
		sum.Keyless += f.Keyless
		for _, name := range f.Scripts {
			if len(sum.Scripts) < maxExamples && !slices.Contains(sum.Scripts, name) {
				sum.Scripts = append(sum.Scripts, name)
			}
		}
		for _, p := range f.Parted {
			sum.add(p)
		}
	}
	slices.SortFunc(sum.Parted, func(a, b Parted) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Command, b.Command))
	})
	return sum
}

func (f *Findings) add(p Parted) {
	i := slices.IndexFunc(f.Parted, func(o Parted) bool { return o.Command == p.Command })
	if i < 0 {
		f.Parted = append(f.Parted, Parted{Command: p.Command})
		i = len(f.Parted) - 1
	}
	of := &f.Parted[i]
	of.Count += p.Count
	if p.Last.After(of.Last) {
		of.Last = p.Last
	}
	of.Examples = append(of.Examples, p.Examples...)
	slices.SortStableFunc(of.Examples, func(a, b Example) int { return a.Time.Compare(b.Time) })
	var different []Example
	for _, e := range of.Examples {
		same := func(o Example) bool { return slices.Equal(o.Keys, e.Keys) }
		if len(different) < maxExamples && !slices.ContainsFunc(different, same) {
			different = append(different, e)
		}
	}
	of.Examples = different
}
