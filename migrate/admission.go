package migrate

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/slots"
)

// admission decides beside which clients of a node keys may move. Two processes that bring
// keys to different places could remove a key from both of its nodes: each takes the other's
// copy for the one that stays.
type admission struct {
	target       string // hash of where keys go
	name         string // of this process: the command, the target and random digits
	serves       string // the placement by which keyways may serve the nodes meanwhile; empty: none
	whileServing bool   // keyways may serve them by any placement
	keyways      func(clients string) []Keyway
}

// Keyway is a keyway that is connected to a node.
type Keyway struct{ Instance, Host, Placement string }

// Serving is the error of a node that is used by keyways whose clients would lose sight of
// keys.
type Serving struct{ Keyways []Keyway }

// Error names the keyways.
func (e *Serving) Error() string {
	list := make([]string, len(e.Keyways))
	for i, k := range e.Keyways {
		list[i] = fmt.Sprintf("%s at %s (placement %s)", k.Instance, k.Host, k.Placement)
	}
	return "keyway serves it: " + strings.Join(list, ", ") + "; its clients do not find keys that have moved, " +
		"and may create them again: stop it first, or, if that is intended, write --while-serving"
}

// The commands that move keys, as their connections name them.
const (
	migrates = "migrate"
	repairs  = "repair"
)

// newAdmission returns the rules of a command that brings keys to where a layout says.
func newAdmission(command string, to *placement, o Options) *admission {
	a := &admission{target: to.hash(), whileServing: o.WhileServing, keyways: o.Keyways}
	var random [8]byte
	rand.Read(random[:])
	a.name = fmt.Sprintf("%s:%s:%x", command, a.target, random)
	return a
}

// hash returns a short text that is the same only for placements that place all keys on the
// same servers.
func (p *placement) hash() string {
	lines := []string{p.hashOfFile}
	for _, n := range p.nodes {
		if n != nil {
			lines = append(lines, n.Name+" "+n.ID)
		}
	}
	slices.Sort(lines[1:])
	if p.table.Clustered() {
		for slot := range slots.Count {
			lines = append(lines, fmt.Sprint(p.table.SlotOwner(int32(slot))))
		}
	}
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:6])
}

// admit returns an error if keys must not move beside one of the clients, which are a reply
// to CLIENT LIST.
func (a *admission) admit(clients string) error {
	for line := range strings.Lines(clients) {
		f := map[string]string{}
		for field := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(field, "=")
			f[name] = value
		}
		name, moves := strings.CutPrefix(f["name"], move.NamePrefix)
		if !moves || name == a.name {
			continue
		}
		command, rest, _ := strings.Cut(name, ":")
		if command == repairs {
			command = "verify --repair"
		}
		if target, _, _ := strings.Cut(rest, ":"); target != a.target {
			return fmt.Errorf("another keyway %s, from %s, moves keys to where another file places them; wait until "+
				"it has ended, or end it, and run the command again (if its machine has died: CLIENT KILL ID %s)",
				command, f["addr"], f["id"])
		}
	}
	if a.whileServing || a.keyways == nil {
		return nil
	}
	serving := slices.DeleteFunc(a.keyways(clients), func(k Keyway) bool { return k.Placement == a.serves })
	if len(serving) > 0 {
		return &Serving{serving}
	}
	return nil
}
