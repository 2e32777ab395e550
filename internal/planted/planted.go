// Package planted knows which bug this build has. An ordinary build has none: Has is false, it is inlined, and the compiler
// leaves out whatever depends on it. Nothing of a bug is in a program that ships.
//
// With the build tag planted, the linker says which one it is to be:
//
//	go build -tags planted -ldflags "-X dems/internal/planted.bug=stale-read" -o bin/stale-read/ ./cmd/...
//
// Such programs are for showing that the checks of failure drills find what they are there for, and that nodes of a wrong
// version are outvoted. They say on standard error what they are. The package starts no goroutine.
package planted

// Bug is the name of a bug that can be planted.
type Bug string

// The bugs.
const (
	// StaleRead has front ends believe the first node that answers a read, and not demand that it has what they have
	// acknowledged: a node that lags behind gives old answers.
	StaleRead Bug = "stale-read"
	// DoubleVote has front ends count the vote that comes first twice: of three nodes, one is a majority.
	DoubleVote Bug = "double-vote"
	// LostRecord has nodes forget at once what makes requests exactly-once, batches of sessions and keys: a batch that is
	// proposed again, and a request that a client sends again, is executed again.
	LostRecord Bug = "lost-record"
	// MonthlyLimit has nodes count foreign bookings apart from the bookings themselves, and not count down when one is
	// cancelled, removed or swapped: customers meet a limit that they are below.
	MonthlyLimit Bug = "monthly-limit"
)

// Bugs returns all of them.
func Bugs() []Bug { return []Bug{StaleRead, DoubleVote, LostRecord, MonthlyLimit} }
