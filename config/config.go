package config

import "time"

// Config is the content of a configuration file.
type Config struct {
	Listen Listeners `yaml:"listen"`
	operators
	Threads Threads `yaml:"threads"`
	Layout  string  `yaml:"layout"`
	HashTag string  `yaml:"hash_tag"`
	Nodes   []Node  `yaml:"nodes"`
	layouts
	accounts
	Reads   string  `yaml:"reads"`
	Backend Backend `yaml:"backend"`
	Clients Clients `yaml:"clients"`
	Limits  Limits  `yaml:"limits"`

	Replicas Replicas `yaml:"replicas"`
	Cluster  Cluster  `yaml:"cluster"`
	listing
	Commands Commands `yaml:"commands"`
	Ready    string   `yaml:"ready"`
	Shutdown Shutdown `yaml:"shutdown"`
	Scripts  Scripts  `yaml:"scripts"`
	Locks    Locks    `yaml:"locks"`
	Log      Log      `yaml:"log"`
	Watch    bool     `yaml:"watch"` // the file is read again when it changes

	guarding
	Instance string `yaml:"instance"`

	source
}

// guarding says what keeps keys where clients look for them.
type guarding struct {
	Placement Placement `yaml:"placement"`
	Switch    Switch    `yaml:"switch"`
}

// listing says what keyway lists of what passes, and which of it keyway keeps.
type listing struct {
	SlowLog SlowLog `yaml:"slowlog"`
	BigKeys BigKeys `yaml:"bigkeys"`

	NearCache NearCache `yaml:"near_cache"`
}

// layouts are the sections of the layouts, of which one is in force.
type layouts struct {
	Slots  Slots  `yaml:"slots"`
	Ring   Hashed `yaml:"ring"`
	Range  Range  `yaml:"range"`
	Modulo Hashed `yaml:"modulo"`
}

// accounts are the users of keyway, and what clients without a password may do.
type accounts struct {
	// ProtectedMode refuses clients of other machines while clients need no password.
	ProtectedMode bool `yaml:"protected_mode"`
	// Auth says who knows the users: AuthKeyway or AuthPassthrough.
	Auth string `yaml:"auth"`

	Users     []User `yaml:"users"` // with those of UsersFile
	UsersFile string `yaml:"users_file"`

	settings []User // what users says about those of UsersFile
}

// User is a user of keyway.
type User struct {
	Name string `yaml:"name"`
	ACL  string `yaml:"acl"` // its rules, in the language of Redis
	// Prefix is in front of all keys and channels of the user, who neither writes nor sees it.
	Prefix string `yaml:"prefix"`
	// Scripts reports whether a user with a prefix may run scripts and functions.
	Scripts bool `yaml:"scripts"`
	// What all clients of the user may use together; 0: there is no limit.
	MaxClients  int  `yaml:"max_clients"`
	MaxInFlight int  `yaml:"max_in_flight"` // commands that are not answered
	Rate        Rate `yaml:"rate"`

	Deny []string `yaml:"deny"` // commands that the user may not send

	Database int    `yaml:"database"` // in which clients begin as the user
	Reads    string `yaml:"reads"`    // instead of that of the configuration; empty: the same

	// OnlySettings reports whether UsersFile does not have the user, who may be made later.
	OnlySettings bool

	line  int // in UsersFile; 0: the user is in the configuration
	place int // of the user in the list of the configuration
}

// Rate bounds what all clients of a user send and get in a second; 0: there is no limit.
type Rate struct {
	Commands CommandRate   `yaml:"commands"`
	Bytes    ByteRate      `yaml:"bytes"`
	Burst    time.Duration `yaml:"burst"`    // how long what is not used is saved
	MaxWait  time.Duration `yaml:"max_wait"` // how long a command waits before the client gets an error
}

// CommandRate is a number of commands in a second: 10000/s.
type CommandRate int64

// ByteRate is a number of bytes in a second: 50mb/s.
type ByteRate int64

// source is where a configuration comes from.
type source struct {
	file      string
	pool      string              // the name of the pool; empty: the file has no pools
	positions map[string]position // of the keys in the file
	epoch     int64               // of the placement, if that is not the file's; see InEpoch
	replaced  *Config             // the file's own placement, if another one is in force
	older     *Config             // the placement before, while keys move from there; see InChange
	planned   *Planned            // what the plan of that change says; nil: it is not known
	left      []Node              // that the file lacks and the placement in force has or had; see Wishing
}

// The layouts.
const (
	LayoutSlots  = "slots"
	LayoutRing   = "ring"
	LayoutRange  = "range"
	LayoutModulo = "modulo"
)

// Layouts are the values of layout.
var Layouts = []string{LayoutSlots, LayoutRing, LayoutRange, LayoutModulo}

// The values of reads.
const (
	ReadsMaster        = "master"
	ReadsPreferReplica = "prefer-replica"
	ReadsReplica       = "replica"
	ReadsNearest       = "nearest"
)

// Reads are the values of reads.
var Reads = []string{ReadsMaster, ReadsPreferReplica, ReadsReplica, ReadsNearest}

// The values of auth: who knows the users of clients.
const (
	AuthKeyway      = "keyway"
	AuthPassthrough = "passthrough" // the nodes
)

// The values of ready: which masters /readyz needs to reach.
const (
	ReadyAny = "any"
	ReadyAll = "all"
)

// The values of placement.misplaced: what keyway does about keys that lie on other nodes
// than the layout says.
const (
	MisplacedRefuse = "refuse" // does not start over them
	MisplacedAllow  = "allow"  // starts, and reports them
	MisplacedOff    = "off"    // does not look
)

// Misplaced are the values of placement.misplaced.
var Misplaced = []string{MisplacedRefuse, MisplacedAllow, MisplacedOff}

// Node is a Redis server, at an address or behind sentinels.
type Node struct {
	Name     string    `yaml:"name"`
	Addr     string    `yaml:"addr"`
	Weight   int       `yaml:"weight"`
	Replicas []string  `yaml:"replicas"` // addresses; sentinels report theirs
	Sentinel *Sentinel `yaml:"sentinel"`
	Login              // see LoginOfNode
	TLS      *NodeTLS  `yaml:"tls"` // see TLSOfNode
}

// Sentinel names a master that sentinels monitor.
type Sentinel struct {
	Master string   `yaml:"master"` // its name among the sentinels
	Addrs  []string `yaml:"addrs"`
	Login           // for the sentinels themselves
	TLS    *NodeTLS `yaml:"tls"` // see TLSOfSentinels
}

// Slots configures the slots layout: a cluster to follow, or a fixed table.
type Slots struct {
	Seeds   []string              `yaml:"seeds"`
	Cluster string                `yaml:"cluster"` // the name of the seeds' cluster, which tells it from others
	Static  map[string]SlotRanges `yaml:"static"`
}

// SlotRanges are the slots of one node: "0-5460", "1,3,5-9" or a list of these.
type SlotRanges []SlotRange

// SlotRange is a run of slots, both ends included.
type SlotRange struct{ First, Last uint16 }

// Hashed configures ring and modulo.
type Hashed struct {
	Hash string `yaml:"hash"`
}

// Range configures the range layout.
type Range struct {
	Rules   []Rule `yaml:"rules"`
	Default string `yaml:"default"`
}

// Rule is a range of keys and its node. With a Prefix, From and To are numbers, both
// included. Without one they are text, and To is excluded.
type Rule struct {
	Prefix *string `yaml:"prefix"`
	From   *string `yaml:"from"`
	To     *string `yaml:"to"`
	Node   string  `yaml:"node"`
}

// Backend configures the connections to the nodes.
type Backend struct {
	Login
	TLS            *NodeTLS      `yaml:"tls"` // of nodes and sentinels; nil: they do not encrypt
	ConnectTimeout time.Duration `yaml:"connect_timeout"`
	RequestTimeout time.Duration `yaml:"request_timeout"` // of silence; above Redis's own busy-reply-threshold, 5 s
	Hold           time.Duration `yaml:"hold"`            // for a dead master's successor
	Connections    int           `yaml:"connections"`     // to each node, per thread
	Exclusive      int           `yaml:"exclusive"`       // connections to each node, per thread, for one client alone
	Integrity      int           `yaml:"integrity"`       // commands between two integrity checks; 0: no checks
}

// Replicas says which replicas may be read from, if Reads allows replicas.
type Replicas struct {
	MaxLag time.Duration `yaml:"max_lag"` // the greatest allowed lag; 0: any
	OptIn  bool          `yaml:"opt_in"`  // only clients that have sent READONLY read from replicas

	Zone  string              `yaml:"zone"`  // of this keyway; empty: zones do not matter
	Zones map[string][]string `yaml:"zones"` // networks and patterns of the nodes' addresses, by zone
}

// Clients configures who may connect.
type Clients struct {
	Password     []string      `yaml:"password"` // each is valid; empty: none is needed
	PasswordFile string        `yaml:"password_file"`
	Max          int           `yaml:"max"`
	IdleTimeout  time.Duration `yaml:"idle_timeout"` // 0: never
	Allow        Networks      `yaml:"allow"`        // empty: all
}

// Limits bound what one client may use, and the memory of the process.
type Limits struct {
	MaxBulk      Size `yaml:"max_bulk"`
	MaxArgs      int  `yaml:"max_args"`
	MaxInline    Size `yaml:"max_inline"`
	MaxRequest   Size `yaml:"max_request"`
	ClientOutput Size `yaml:"client_output"`
	Memory       Size `yaml:"memory"` // 0: half of the machine's or the control group's
}

// Cluster makes keyway present itself as a Redis Cluster, for clients that speak only
// to a cluster.
type Cluster struct {
	Emulate  bool     `yaml:"emulate"`
	Announce string   `yaml:"announce"` // the address at which clients find this keyway
	Peers    []string `yaml:"peers"`    // the addresses of the other keyways
}

// SlowLog says which commands SLOWLOG lists.
type SlowLog struct {
	SlowerThan time.Duration `yaml:"slower_than"`
	Entries    int           `yaml:"entries"` // per thread
}

// BigKeys says which values KEYWAY BIGKEYS lists.
type BigKeys struct {
	Over Size `yaml:"over"` // of a value that is written, or of a reply
}

// NearCache says which GETs keyway answers itself.
type NearCache struct {
	Enabled  bool          `yaml:"enabled"`
	OneIn    int           `yaml:"one_in"` // a key is hot if one in so many commands of a thread reads it
	Memory   Size          `yaml:"memory"` // of the values of all threads
	MaxValue Size          `yaml:"max_value"`
	Lease    time.Duration `yaml:"lease"` // how long a value is used after keyway has asked for it
}

// Shutdown configures what happens after SIGTERM.
type Shutdown struct {
	Delay   time.Duration `yaml:"delay"`   // /readyz fails, and new clients are still served
	Drain   time.Duration `yaml:"drain"`   // after the delay: no new clients; the others are closed during this time
	Timeout time.Duration `yaml:"timeout"` // after that: for the commands under way
	Upgrade time.Duration `yaml:"upgrade"` // how long clients may take to follow to a new process
}

// Placement configures the guard over the nodes' keys.
type Placement struct {
	Misplaced string `yaml:"misplaced"`
	Next      string `yaml:"next"` // a file whose layout is tried
}

// Switch says how the layout changes while clients run.
type Switch struct {
	Auto     bool          `yaml:"auto"`     // begin when the files of all keyways have another layout
	Hold     time.Duration `yaml:"hold"`     // how long commands wait for those in flight at most
	Rate     int           `yaml:"rate"`     // keys that move in a second at most; 0: there is no limit
	Latency  time.Duration `yaml:"latency"`  // of nodes for PING, above which fewer keys move; 0: never
	Batch    int           `yaml:"batch"`    // keys that move at once
	Durable  string        `yaml:"durable"`  // which replicas must have followed before a key has moved
	Big      Big           `yaml:"big"`      // keys that stall their nodes
	Remember int           `yaml:"remember"` // keys, in each thread, that are known to have moved
}

// Big says when keys move that stall both of their nodes.
type Big struct {
	Over Size   `yaml:"over"` // in the memory of the node
	How  string `yaml:"how"`
}

// The values of switch.durable.
const (
	DurableAuto   = "auto"   // one of the new node, if it has any
	DurableStrict = "strict" // one of the new node and one of the former node
	DurableOff    = "off"    // none
)

// The values of switch.big.how.
const (
	BigLast   = "last"   // after all others
	BigNow    = "now"    // like others
	BigRefuse = "refuse" // the layout does not change while there are any
)

// Log says what is logged, and how.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Commands allows commands that keyway refuses otherwise, and denies others.
type Commands struct {
	Allow []string `yaml:"allow"`
	Deny  []string `yaml:"deny"`
}

// Scripts describes scripts, where keyway cannot see what they do.
type Scripts struct {
	PerKey  []PerKeyScript `yaml:"per_key"` // scripts that treat each of their KEYS alone
	Keyless string         `yaml:"keyless"` // scripts without KEYS run on the node of this key
}

// PerKeyScript names a script, by its SHA-1 or its text, and says which ARGV belong to
// which KEYS; see lua.PerKey.
type PerKeyScript struct {
	SHA   string   `yaml:"sha"`
	Text  string   `yaml:"text"`
	Keys  int      `yaml:"keys"` // how many KEYS belong together; 0 means 1
	Argv  []string `yaml:"argv"` // shared, each, counted; empty: all are shared
	Reply string   `yaml:"reply"`
}

// Size is a number of bytes: 1024, 64kb, 512mb, 1gb (k, m and g alone are
// powers of ten, as in redis.conf).
type Size int64

// Default is the configuration of an empty file.
func Default() Config {
	return Config{
		Listen:  Listeners{{Addr: "127.0.0.1:6380"}},
		Threads: 1,
		Layout:  LayoutSlots,
		HashTag: "{}",
		layouts: layouts{Ring: Hashed{Hash: "murmur"}, Modulo: Hashed{Hash: "crc32"}},

		accounts: accounts{ProtectedMode: true, Auth: AuthKeyway},

		Reads: ReadsMaster,
		Backend: Backend{
			Login:          defaultLogin,
			ConnectTimeout: time.Second, RequestTimeout: 6 * time.Second, Hold: 6 * time.Second,
			Connections: 1, Exclusive: 1000, Integrity: 1000,
		},
		Clients: Clients{Max: 10000},

		guarding: guarding{
			Placement: Placement{Misplaced: MisplacedRefuse},
			Switch: Switch{
				Hold: time.Second, Latency: time.Millisecond, Batch: 100, Durable: DurableAuto,
				Big: Big{Over: 32 << 20, How: BigLast}, Remember: 1 << 20,
			},
		},

		Ready:    ReadyAny,
		Log:      Log{Level: "info", Format: "text"},
		Shutdown: Shutdown{Drain: 5 * time.Second, Timeout: 10 * time.Second, Upgrade: time.Minute},
		Replicas: Replicas{MaxLag: 10 * time.Second},
		listing: listing{
			SlowLog: SlowLog{SlowerThan: 10 * time.Millisecond, Entries: 128},
			BigKeys: BigKeys{Over: 1 << 20},

			NearCache: NearCache{
				OneIn: 100, Memory: 16 << 20, MaxValue: 8 << 10, Lease: 100 * time.Millisecond,
			},
		},
		Locks: Locks{Observe: true},

		operators: operators{following: defaultFollowing},
		Limits: Limits{
			MaxBulk:      512 << 20,
			MaxArgs:      1 << 20,
			MaxInline:    64 << 10,
			MaxRequest:   512 << 20,
			ClientOutput: 256 << 20,
		},
	}
}
