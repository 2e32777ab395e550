package fsm

// Limits of what the state holds in memory. They are part of the rules: all nodes of a cluster need the same.
const (
	// maxResultBytes is how large the results of one batch may have become before another command is refused as
	// unavailable, in bytes. It keeps replies within what the transport carries.
	maxResultBytes = 16 << 20
	// maxStoredResultBytes is how many bytes of results all sessions together keep for batches proposed again; beyond it,
	// the oldest give way.
	maxStoredResultBytes = 64 << 20
	// maxStoredKeyBytes is how many bytes the idempotency keys with their results take. MaxKeys bookings take a tenth of
	// it; removals of events with very many bookings have large results.
	maxStoredKeyBytes = 512 << 20
	// maxKeysExpiredPerBatch is how many keys one batch forgets because of their age: more than it can add, and few enough
	// to take less than a millisecond.
	maxKeysExpiredPerBatch = 2048
	// keyChunkBytes is the size of the pieces of memory in which keys are kept, in bytes; offsets in them have 16 bits.
	keyChunkBytes = 64 << 10
)
