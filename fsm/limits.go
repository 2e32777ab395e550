package fsm

import "dems"

// limits bound what the state holds in memory. They are part of the rules: all nodes of a cluster have the same. Tests
// make them small.
type limits struct {
	keys          int // idempotency keys
	sessions      int
	registrations int // of nodes, and of front ends; also members and standings
	incidents     int
	// resultBytes is how large the results of one batch may have become before another command is refused as unavailable:
	// it keeps replies within what the transport carries.
	resultBytes int
	// storedResultBytes is how many bytes of results all sessions together keep for batches proposed again; beyond it, the
	// oldest give way.
	storedResultBytes int
	// keyBytes is how many bytes the idempotency keys take with their results. A million bookings take a tenth of it;
	// removals of events with very many bookings have large results.
	keyBytes int
	// expiredKeys is how many keys one batch forgets because of their age: more than it can add, and few enough to take
	// less than a millisecond.
	expiredKeys int
}

func defaultLimits() limits {
	return limits{
		keys:              dems.MaxKeys,
		sessions:          dems.MaxSessions,
		registrations:     dems.MaxRegistrations,
		incidents:         dems.MaxIncidents,
		resultBytes:       16 << 20,
		storedResultBytes: 64 << 20,
		keyBytes:          512 << 20,
		expiredKeys:       2048,
	}
}

// keyChunkBytes is the size of the pieces of memory in which keys are kept; offsets in them have 16 bits.
const keyChunkBytes = 64 << 10
