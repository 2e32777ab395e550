package frontend

const (
	// archiveLimit is how many decided batches are kept, so that votes that come later are judged, too.
	archiveLimit = 1024
	// archiveBytes is how many bytes of results they may hold; of the newest ones all is kept.
	archiveBytes = 8 << 20
)

// archive holds the flights of one session that landed last. The zero archive is ready to use.
type archive struct {
	flights [archiveLimit]*flight // by number, modulo the limit
	oldest  uint64                // number of the oldest one that may be there
	bytes   int
}

// add adds a flight. The one that has its place, and the oldest ones while too many bytes are held, are dropped.
func (a *archive) add(f *flight) {
	a.drop(f.number % archiveLimit)
	a.flights[f.number%archiveLimit] = f
	f.kept = f.weight()
	a.bytes += f.kept
	for a.oldest+archiveLimit <= f.number {
		a.oldest++
	}
	for ; a.bytes > archiveBytes && a.oldest < f.number; a.oldest++ {
		a.drop(a.oldest % archiveLimit)
	}
}

func (a *archive) drop(place uint64) {
	if f := a.flights[place]; f != nil {
		a.bytes -= f.kept
		a.flights[place] = nil
	}
}

// find returns the flight with a number, or nil.
func (a *archive) find(number uint64) *flight {
	if f := a.flights[number%archiveLimit]; f != nil && f.number == number {
		return f
	}
	return nil
}
