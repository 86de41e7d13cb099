package sim

import (
	"fmt"

	"github.com/keyway-proxy/keyway/resp"
)

// discarded is the error of EXEC after an error of a queued command (multi.c).
const discarded = "EXECABORT Transaction discarded because of previous errors."

// transaction is a client's MULTI with two RPUSHes to one key, perhaps after WATCH.
type transaction struct {
	key     string
	elems   [2]string
	watched bool // WATCH was answered with OK
	changed bool // the client itself has changed the key after WATCH
	broken  bool // one of its commands was answered with an error instead of QUEUED
}

// askTransaction sends a whole transaction. Half of the transactions begin with WATCH. In
// half of those the client changes the key after WATCH.
func (c *client) askTransaction(key string) {
	r := c.world.rng
	tx := &transaction{key: key}
	ask := func(q question, args ...string) {
		q.keys, q.tx, q.sent = []string{key}, tx, c.world.now
		c.waiting = append(c.waiting, q)
		c.send(args...)
	}
	onOwnConn := r.IntN(2) == 0
	if onOwnConn {
		ask(question{kind: "WATCH"}, "WATCH", key)
		if r.IntN(2) == 0 {
			q := question{kind: "RPUSH", keys: []string{key}, elem: c.element()}
			c.record(q)
			ask(q, "RPUSH", key, q.elem)
		}
	}
	ask(question{kind: "MULTI"}, "MULTI")
	for i := range tx.elems {
		tx.elems[i] = c.element()
		c.onOwnConn[tx.elems[i]] = onOwnConn
		c.record(question{keys: []string{key}, elem: tx.elems[i]})
		ask(question{kind: "QUEUED"}, "RPUSH", key, tx.elems[i])
	}
	c.transactions = append(c.transactions, tx)
	ask(question{kind: "EXEC", elem: tx.elems[0]}, "EXEC")
}

func (c *client) element() string {
	c.seq++
	return fmt.Sprintf("e%d", c.seq)
}

// judgeTransaction checks a reply that is not an error, of any command of a transaction.
func (c *client) judgeTransaction(q question, reply []byte) {
	want := "+OK\r\n"
	switch q.kind {
	case "EXEC":
		c.judgeExec(q.tx, reply)
		return
	case "QUEUED":
		want = "+QUEUED\r\n"
	}
	if string(reply) != want {
		c.world.failf("client %d: %s answered with %.80q", c.id, q.kind, reply)
	}
	q.tx.watched = q.tx.watched || q.kind == "WATCH"
}

// judgeExec checks a reply to EXEC that is not an error.
func (c *client) judgeExec(tx *transaction, reply []byte) {
	if resp.IsNull(reply) {
		if !tx.watched {
			c.world.failf("client %d: EXEC without WATCH is answered with null", c.id)
		}
		c.settle(tx, refused)
		return
	}
	n, rest, ok := resp.Elements(reply)
	first, rest, ok1 := resp.Split(rest)
	second, _, ok2 := resp.Split(rest)
	a, ok3 := resp.Int(first)
	b, ok4 := resp.Int(second)
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || n != 2 || b != a+1 {
		c.world.failf("client %d: EXEC is answered with %.80q", c.id, reply)
	}
	if tx.watched && tx.changed {
		c.world.failf("client %d: EXEC has succeeded though %s has changed since WATCH", c.id, tx.key)
	}
	c.settle(tx, acked)
}

func (c *client) settle(tx *transaction, f outcome) {
	for _, e := range tx.elems {
		if f == acked {
			c.acknowledge(tx.key, e)
		} else {
			c.pushed[tx.key][e] = f
		}
	}
}

// checkTransactions fails the run if only one command of a transaction was executed.
func (c *client) checkTransactions(count map[string]map[string]int) {
	for _, tx := range c.transactions {
		if n := count[tx.key]; n[tx.elems[0]] != n[tx.elems[1]] {
			c.world.failf("client %d: of the transaction %v of %s half was executed", c.id, tx.elems, tx.key)
		}
	}
}
