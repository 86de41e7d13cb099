package clients

// Topic is a channel or a pattern that clients are subscribed to.
type Topic struct {
	Name    string `json:"name"`    // as in resp.Text
	Kind    string `json:"kind"`    // ChannelKind, PatternKind or ShardKind
	Clients int    `json:"clients"` // of all threads
}

// The kinds of topics.
const (
	ChannelKind = "channel"
	PatternKind = "pattern"
	ShardKind   = "shard channel"
)

// Topics are the topics with the most clients.
type Topics struct {
	Topics []Topic `json:"subscriptions"`
	Whole  bool    `json:"whole"` // all topics were looked at
}

// Key puts the topic with more clients first.
func (t Topic) Key() Key {
	return Key{Number: float64(t.Clients), Text: t.Name, ID: uint64(len(t.Kind))}
}

// JoinTopics joins the topics of several threads. Each thread counts the clients of all, but for a moment in which
// it does not know of a change at another.
func JoinTopics(threads []Topics, count int) Topics {
	all := Topics{Whole: true}
	most := map[Topic]int{}
	for _, of := range threads {
		all.Whole = all.Whole && of.Whole
		for _, t := range of.Topics {
			key := Topic{Name: t.Name, Kind: t.Kind}
			most[key] = max(most[key], t.Clients)
		}
	}
	top := NewTop[Topic](count)
	for t, n := range most {
		t.Clients = n
		top.Add(t.Key(), t)
	}
	all.Topics = top.First()
	return all
}
