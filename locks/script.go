package locks

import "github.com/keyway-proxy/keyway/quorum"

// Op is what a command does to a lock.
type Op uint8

const (
	Nothing Op = iota
	Acquire
	Renew
	Release
	Force  // removes the lock, whoever holds it
	Expire // sets the lease in a second step
	Cross  // was refused, because the keys of a script do not live together
	Ask    // asks whether the token has the lock, and changes nothing
)

// meaning says how a reply tells what became of the operation.
type meaning uint8

const (
	truthy       meaning = iota // OK or a number above 0: done
	nilDone                     // nil: done; a number: the time that the lock is still held by another
	zeroDone                    // 0: done
	unlocked                    // 1: released; 0: the holder holds it once more; nil: it is not the holder
	perKey                      // an array with 1 for each key that was renewed
	firstNegated                // an array; its first element is -1 if the lock was acquired
	returned                    // what How.Returns says for Done: done
)

// How describes a command or a script that works on a lock.
type How struct {
	Library string
	Kind    string
	Op      Op
	Keys    int  // how many leading KEYS name locks; 0: one; allKeys: each
	Step    int  // with allKeys: how many KEYS there are for each lock; 0: one
	Token   int  // the number of the ARGV with the holder's token; 0: none
	Each    bool // the locks after the first have their tokens in the ARGV that follow
	Lease   int  // the number of the ARGV with the lease; 0: none
	Seconds bool
	At      bool // the lease is the time at which it ends, in milliseconds since 1970
	Reply   meaning
	Channel string // prefix of the channel that wakes waiters: the name in braces follows

	// What follows is known of scripts for locks that are strings.

	Returns  quorum.Returns
	Again    bool // a client that has the lock acquires it again: the script sets the new lease
	Length   int  // with Again, the number of the ARGV with how many bytes of the token must agree; 0: all
	Adds     int  // the number of the ARGV that is "0" if the lease is added to what is left; 0: none
	Database int  // the number of the ARGV with the database that the script selects; 0: none
}

// allKeys says that each of a script's KEYS names a lock.
const allKeys = -1

// The kinds of locks.
const (
	KindString   = "string"
	KindSetNX    = "setnx"
	KindMutex    = "mutex"
	KindFair     = "fair"
	KindRead     = "read"
	KindWrite    = "write"
	KindFenced   = "fenced"
	KindSpin     = "spin"
	libRedisson  = "Redisson"
	libPyLock    = "python-redis-lock"
	libRegistry  = "RedisLockRegistry"
	libUnknown   = "unknown"
	redissonWake = "redisson_lock__channel"
	redissonRW   = "redisson_rwlock"
)

// isRedisson reports whether the lock is a hash of Redisson, in which a holder may count
// several acquisitions.
func (h *How) isRedisson() bool { return h.Library == libRedisson }

// The commands that work on locks without a script.
var (
	setNX     = &How{Library: libUnknown, Kind: KindString, Op: Acquire}
	setNXOnly = &How{Library: libUnknown, Kind: KindSetNX, Op: Acquire}
	setXX     = &How{Library: libUnknown, Kind: KindString, Op: Renew}
	ifEqual   = &How{Library: libUnknown, Kind: KindString, Op: Renew}
	delEqual  = &How{Library: libUnknown, Kind: KindString, Op: Release}
	del       = &How{Library: libUnknown, Kind: KindString, Op: Force}
	expire    = &How{Library: libUnknown, Kind: KindString, Op: Expire}
	crossed   = &How{Library: libUnknown, Op: Cross}
)

// str returns the description of a script for locks that are strings. It returns 1, or 0.
func str(library string, op Op, token, lease int) *How {
	return (&How{Library: library, Kind: KindString, Op: op, Token: token, Lease: lease}).returning(":1", ":0", ":0")
}

// returning returns how with other replies.
func (h *How) returning(done, other, none quorum.Value) *How {
	h.Returns = quorum.Returns{Done: done, Other: other, None: none}
	return h
}

// leaseOr returns how with what is left of the lease as its reply, or another one.
func (h *How) leaseOr(other quorum.Value) *How { return h.returning(quorum.LeaseLeft, other, other) }

// okOrNull returns how with the replies of SET.
func (h *How) okOrNull() *How { return h.returning("+OK", quorum.Null, quorum.Null) }

// trueOrFalse returns how with the replies of a script that returns true or false.
func (h *How) trueOrFalse() *How { return h.returning(":1", quorum.Null, quorum.Null) }

// againFor returns how for a script that lets a client acquire a lock again. length is the
// number of the ARGV with the length of what must agree; 0: the whole token.
func againFor(length int, how *How) *How {
	how.Again, how.Length = true, length
	return how
}

// adding returns how for a script that adds to the lease if ARGV[arg] is 0.
func adding(arg int, how *How) *How {
	how.Adds = arg
	return how
}

// selecting returns how for a script that selects the database ARGV[1].
func selecting(how *How) *How {
	how.Database = 1
	return how
}

// several returns how with each of the KEYS naming a lock.
func several(how *How) *How {
	how.Keys = allKeys
	return how
}

// redisson returns the description of a script of Redisson.
func redisson(kind string, op Op, token, lease int, reply meaning) *How {
	wake := redissonWake
	switch kind {
	case KindRead, KindWrite:
		wake = redissonRW
	case KindSpin:
		wake = ""
	}
	return &How{
		Library: libRedisson, Kind: kind, Op: op, Token: token, Lease: lease, Reply: reply, Channel: wake,
	}
}

// renewsMany is the description of Redisson's renewals: the KEYS are step names for each lock.
func renewsMany(kind string) *How {
	h := redisson(kind, Renew, 2, 1, perKey)
	h.Keys, h.Each = allKeys, kind != KindRead
	if kind == KindRead {
		h.Token, h.Step = 0, 2
	}
	return h
}

// inSeconds returns how with a lease in seconds.
func inSeconds(how *How) *How {
	how.Seconds = true
	return how
}

// untilThen returns how with a lease that is the time of its end.
func untilThen(how *How) *How {
	how.At = true
	return how
}

// zero returns how with 0 as the reply to success.
func zero(how *How) *How {
	how.Reply = zeroDone
	return how
}

// libraries are the scripts of known libraries by the SHA-1 of their text. The versions that
// they were taken from are in docs/locks.md.
var libraries = map[string]*How{
	"1cac51482acf5858da00f6d685d68f886cd6b6b2": str("redis-py", Renew, 1, 2),            // reacquire
	"a4e8783852e6b949f9ef3a97212805108459a890": adding(3, str("redis-py", Renew, 1, 2)), // extend
	"c3f8721cbb97f72bc19e972846bd7aaf91901658": str("redis-py", Release, 1, 0),
	"411b7c153e0ab3ba59d6d1e36cc7858ebd76f2c5": str("redbeat", Renew, 1, 2),

	"d75bb8b5bd13532ddedd17762e772346e39b321e": str("redsync", Renew, 1, 2),
	"e950836ed1e694540c503ef9972b8de518044d3b": str("redsync", Release, 1, 0).returning(":1", ":0", ":-1"),

	"80a1b5f2cfccec3b7119ba7721d2127682b691a7": againFor(2, str("bsm/redislock", Acquire, 1, 3).okOrNull()),
	"a7aba3bc5d6e99b3003da8b9d80a63b9f4092ecf": str("bsm/redislock", Renew, 1, 2),
	"cf0e94b2e9ffc7e04395cf88f7583fc309985910": str("bsm/redislock", Release, 1, 0),
	"6484da7d58920897fdc22b7f9afd1a3d47524ea8": str("bsm/redislock", Ask, 1, 0).leaseOr(":-3"),

	"e5a322e2634ef59a516e8ea150cb085afafee684": several(str("redlock (node)", Acquire, 1, 2)),
	"ce46f80993d5dac20dd066eb301a4e37994bdbed": several(str("redlock (node)", Renew, 1, 2)),
	"0f0f23b9048b36752b5be114f357ba083449f908": several(str("redlock (node)", Release, 1, 0)),

	"1b77b94aa78451d55dfa97e18819bfbfc596cb5b": selecting(several(str("redlock (sesamecare)", Acquire, 2, 3))),
	"820e9778d2b6733e9ed771e4be90ae73a95a6f3b": selecting(several(str("redlock (sesamecare)", Renew, 2, 3))),
	"df51f6837dcfe303d334e6abea9aeae192bab216": selecting(several(str("redlock (sesamecare)", Release, 2, 0))),

	"594683e49a64ebaf975caf5f8079a1d097c438f1": str("redis-semaphore", Renew, 1, 2),
	"7157921a7cc7cfba979acf6d63f073151df17d12": str("redis-semaphore", Release, 1, 0),

	"ba015a80261b616e7a62d35df0b8e3edbe6c9414": str("pottery", Renew, 1, 2),
	"a4aada0b36710970eedaaaeec4a6b7d8c78c4f80": str("pottery", Release, 1, 0),
	"f5f7bd3a3aa4a63c507c1155c5ea1219b350d992": str("pottery", Ask, 1, 0).leaseOr(":0"),
	"4e92fdc63815b3a0a2dd1c1df3694de73607c88d": str("redlock-py", Release, 1, 0),

	"7bcdefae3714859f68f1f2377bddae74a1af9391": inSeconds(str("sherlock", Acquire, 1, 2)),
	"8a7fdef25bdef981900f982f5773edaf35000372": inSeconds(str("sherlock", Renew, 1, 2)),
	"bfb9f817b2e860fe4fc58656b2bf657d3fdc2be1": str("sherlock", Release, 1, 0),

	"fed16109024d968d9496e4140fe1355bac05ebff": zero(inSeconds(str(libPyLock, Renew, 1, 2))),
	"90da91872223f85eb1376a17e3c4df21ace8c54b": zero(str(libPyLock, Release, 1, 0)),
	"afbc8014508f92e446b56567e8ba600e811c1bd5": str(libPyLock, Force, 0, 0),

	"3875d208d9e377969d2022550302cc83ad17b584": untilThen(str("rueidislock", Acquire, 1, 2)),
	"fa3d1aaa7e4145457755016a3d5daf72fa7a11bf": str("rueidislock", Acquire, 1, 2).okOrNull(),
	"852ba6ec6104340ced36643283c856d4698569e4": untilThen(str("rueidislock", Renew, 1, 2)),
	"9eb62214c9af87ae5f9a9f12bb4520281c0d2ae1": str("rueidislock", Release, 1, 0),

	"175897a4e379e99e79a54937be09226f76cdcfe5": againFor(0, str(libRegistry, Acquire, 1, 2).trueOrFalse()),
	"f0f9038aa2b6d6c3436c72d147573ea2a58f0ef2": str(libRegistry, Release, 1, 0).trueOrFalse(),
	"356d97191f2b63031781ccc0e8e82f02e1995a90": str(libRegistry, Release, 1, 0).trueOrFalse(), // with DEL
	"879e0f7b8d83c3266d4e996627438c05dbda0b89": str(libRegistry, Renew, 1, 2).trueOrFalse(),
	"67aebbcba76d9674162e8906de1f669866f48e07": str(libRegistry, Release, 1, 0), // and publishes
	"4d7192f70618a620282e427698f9cde890151e58": str(libRegistry, Release, 1, 0), // with DEL

	"149c5a8bf18676fd99e9e6e24923bd64d9b62f94": redisson(KindMutex, Acquire, 2, 1, nilDone),
	"6866459238a13a701d42f4971f12d9f3a50e2442": redisson(KindMutex, Release, 3, 0, unlocked),
	"605e338249a7a1d40df83b04f7658354f883b41b": redisson(KindMutex, Force, 0, 0, truthy),
	"6a3d31570dc6f4b0bd32bcdc8e75667747c6f635": renewsMany(""),
	"3daa7be6cf69d9309ad990442e83bf25094f9b22": redisson(KindMutex, Acquire, 2, 1, nilDone), // not reentrant

	"71ed11d4e4818119ac560b3d670a7f08256afc46": redisson(KindFair, Acquire, 2, 1, nilDone), // without waiting
	"8f6ed299ffd259f0539c20f89253998c0777ea75": redisson(KindFair, Acquire, 2, 1, nilDone),
	"367f80bd2e300e411fb0936d9b601e5bcb3fd4b6": redisson(KindFair, Release, 3, 0, unlocked),

	"95553a6ff11176c18e71344e89d116b06fd6f753": redisson(KindRead, Acquire, 2, 1, nilDone),
	"6e1b10e11ac0a3ed8e902562ecd32ce01b553039": redisson(KindRead, Release, 2, 0, unlocked),
	"38d2b478dfbe264ab67c221b7e4be62245f00ba0": renewsMany(KindRead),
	"1affef780a01e1406cb1968c62918f618d10d6a3": renewsMany(KindRead),
	"6306ba3bf1f563b284bed52d305fce615c6664d9": redisson(KindWrite, Acquire, 2, 1, nilDone),
	"21f5fb0f8ddfa9be5c3e0c9757c128796add75c6": redisson(KindWrite, Release, 3, 0, unlocked),

	"49babb5a1e6a0c5f188c2ae62b93b51cdfd63e45": redisson(KindFenced, Acquire, 2, 1, firstNegated),
	"46b5551ba403d6152a7a6eca122e08728d6c8c66": redisson(KindFenced, Acquire, 2, 1, nilDone),
	"dad0f8d619e548e04f21fb48d50be5034df3adae": redisson(KindSpin, Acquire, 2, 1, nilDone),
	"73ac2729af29ea9a975f95e8097f7ee9a74cce3d": redisson(KindSpin, Release, 2, 0, unlocked),
	"51b433c3cc9a6ca991b3aefec63d23490c246318": redisson(KindSpin, Force, 0, 0, truthy),
}

// OnMajority returns what the script does with a lock on a majority of nodes.
func (h *How) OnMajority() *quorum.Script {
	kind := map[Op]quorum.Kind{
		Acquire: quorum.Acquire, Renew: quorum.Renew, Release: quorum.Release, Ask: quorum.Read,
	}[h.Op]
	return &quorum.Script{
		Kind: kind, Library: h.Library, AllKeys: h.Keys == allKeys, Token: h.Token, Lease: h.Lease,
		Seconds: h.Seconds, Again: h.Again, Length: h.Length, Adds: h.Adds, Database: h.Database, Returns: h.Returns,
	}
}
