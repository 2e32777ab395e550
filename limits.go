package dems

import "time"

// Limits. Everything that can grow has one; each says its unit and its reason.
const (
	// MaxCapacity is the largest capacity of an event, in seats.
	MaxCapacity = 1_000_000
	// MaxForeignBookingsPerMonth is how many live bookings outside the home city a customer may have among events of
	// one calendar month.
	MaxForeignBookingsPerMonth = 3
	// MaxKeyBytes is the longest idempotency key, in bytes.
	MaxKeyBytes = 128
	// MaxKeys is how many idempotency keys the replicated state remembers; the oldest is forgotten first.
	MaxKeys = 1_000_000
	// KeyLifetime is how long, in log time, a key is remembered unless MaxKeys newer ones came.
	KeyLifetime = 24 * time.Hour
	// MaxBatchCommands is how many commands one log entry carries: large enough to share an fsync among all requests
	// that wait, small enough that applying one entry stays well under a millisecond.
	MaxBatchCommands = 512
	// MaxBatchesInFlight is how many batches of one front end may be unanswered at once. The replicated state keeps
	// the results of that many batches of each session, so a batch proposed again is always recognised.
	MaxBatchesInFlight = 8
	// MaxSessions is how many front-end sessions the replicated state remembers; the one unused for longest is
	// forgotten first, and its front end has to open a new one.
	MaxSessions = 256
	// MaxRegistrations is how many nodes, and how many front ends, the registry holds; the oldest gives way.
	MaxRegistrations = 256
	// MaxEntryBytes is the largest log entry, in bytes: MaxBatchCommands of the largest commands fit.
	MaxEntryBytes = 512 << 10
	// MaxCities is how many cities a cluster may have.
	MaxCities = 64
	// MaxCityNameBytes is the longest name of a city, in bytes.
	MaxCityNameBytes = 64
	// MaxNameBytes is the longest ID, address or version in a registration, in bytes.
	MaxNameBytes = 255
	// MaxQueries is how many queries one request to a node carries.
	MaxQueries = 512
	// MaxIncidents is how many incidents the replicated state remembers; the oldest is forgotten first.
	MaxIncidents = 1024
	// MaxEvidenceBytes is how long each text of an incident may be, in bytes.
	MaxEvidenceBytes = 256
	// MaxReportIndexes is how many log entries a report names.
	MaxReportIndexes = 8
	// MaxReplacementsPerHour is how many automatic replacements a node gets in an hour of log time; the next conviction
	// puts it into quarantine.
	MaxReplacementsPerHour = 3
	// MaxFaultRequests is how many requests a fault may be limited to.
	MaxFaultRequests = 1_000_000
	// MaxFaultDelay is the longest delay of a slow node or network.
	MaxFaultDelay = 10 * time.Second
	// MaxFaultLasts is the longest time after which a fault of the network ends by itself: nobody can tell a node that is cut
	// off to end it sooner.
	MaxFaultLasts = 10 * time.Minute
	// MaxFaultPeers is how many peers a fault of the network names.
	MaxFaultPeers = 16
)
