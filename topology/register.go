package topology

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
)

// Registered is the register of a node.
type Registered struct {
	Name, Addr string
	Err        error             // not nil: the node could not be asked
	Epoch      int64             // of the node; 0: it has no register
	Texts      map[string]string // of all its records, by name
}

// Registers asks the nodes of the table for their registers, all at once. It leaves out those
// without an address. A node may take the time timeout, or half a second if that is longer,
// for its answer. A node that does not know functions, or does not permit to list them, has no
// register.
func Registers(ctx context.Context, as Accounts, timeout time.Duration, t *router.Table) []Registered {
	nodes := slices.DeleteFunc(slices.Clone(t.Nodes), func(n router.Node) bool { return n.Addr == "" })
	all := make([]Registered, len(nodes))
	ctx, cancel := context.WithTimeout(ctx, questions*max(timeout, askTimeout))
	defer cancel()
	var asked sync.WaitGroup
	for i, n := range nodes {
		asked.Go(func() { all[i] = askRegister(ctx, as, timeout, n) })
	}
	asked.Wait()
	return all
}

func askRegister(ctx context.Context, as Accounts, timeout time.Duration, n router.Node) Registered {
	r := Registered{Name: n.Name, Addr: n.Addr, Texts: map[string]string{}}
	c := NewClient(n.Addr, as(n), timeout)
	defer c.Close()
	q := redis.FunctionListQuery{LibraryNamePattern: register.Pattern, WithCode: true}
	libraries, err := c.FunctionList(ctx, q).Result()
	if err != nil && !lacksRegister(err) {
		r.Err = err
	}
	for _, l := range libraries {
		r.Texts[l.Name] = l.Code
		r.Epoch = max(r.Epoch, register.Number(l.Name))
	}
	return r
}

// lacksRegister reports whether a node with this error has no register.
func lacksRegister(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "ERR ") || strings.HasPrefix(text, "NOPERM ")
}
