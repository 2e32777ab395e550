package citylog

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"dems"
)

const (
	fetchTimeout   = 5 * time.Second // for one page
	wholeAttempts  = 20              // between two comparisons with a peer's whole log
	fetchPauseMin  = 50 * time.Millisecond
	fetchPauseMax  = 5 * time.Second
	fetchPageBytes = MaxPageBytes
)

// Source is a peer that has city logs, too.
type Source interface {
	// CityLog returns ordered records from number first on, whole lines, about maxBytes of them.
	CityLog(ctx context.Context, city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error)
}

// errMismatch means that fetched records do not lead from the end of this node's log to the replicated state.
var errMismatch = errors.New("fetched records have another chain digest")

// history is fetched and verified records that follow on the end of a log.
type history struct {
	log    *log
	file   *os.File // removed from its folder already
	reader *bufio.Reader
	end    position
}

// fetch fetches the records after base that the replicated state has, from one peer after another until one has them all
// with the right chain digest, and hands them to the writing goroutine. A peer whose records do not follow on this node's
// log may be wrong, or the log is damaged: that is so if all of the peer's records, from the first on, lead to the
// replicated state. Then they are handed over in place of the log.
func (l *Logs) fetch(ctx context.Context, log *log, base position) {
	pause := fetchPauseMin
	compared := make(map[int]int) // by source: the attempt in which its whole log was fetched
	for attempt := 0; ; attempt++ {
		var target position
		target.records, target.chain = l.config.State.CityLog(log.city)
		problems, turn := error(nil), l.turn()
		for i := range l.config.Sources {
			number := (turn + i) % len(l.config.Sources)
			source := l.config.Sources[number]
			got, err := l.fetchFrom(ctx, source, log, base, target)
			if err == nil {
				l.handOver(ctx, message{history: got})
				return
			}
			last, before := compared[number]
			if errors.Is(err, errMismatch) && base.records > 0 && (!before || attempt >= last+wholeAttempts) {
				compared[number] = attempt
				if got, err := l.fetchFrom(ctx, source, log, position{}, target); err == nil {
					l.handOver(ctx, message{damaged: log, history: got})
					return
				}
			}
			if ctx.Err() != nil {
				return
			}
			problems = errors.Join(problems, err)
		}
		if attempt%20 == 1 { // at once would complain of peers that are just starting
			l.config.Logger.Warn("city log history cannot be fetched; until it is, no snapshot is taken", "city", log.city,
				"from", base.records, "to", target.records, "error", problems)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, fetchPauseMax)
	}
}

// handOver hands fetched records to the writing goroutine, or lets go of them when that has ended.
func (l *Logs) handOver(ctx context.Context, m message) {
	if l.send(ctx, m) != nil {
		m.history.close()
	}
}

// turn counts attempts, so that peers take turns at being asked first.
func (l *Logs) turn() int { return int(l.turns.Add(1) % 1024) }

// fetchFrom fetches the records from base to target from one peer into a nameless file and checks their chain digest.
func (l *Logs) fetchFrom(ctx context.Context, source Source, log *log, base, target position) (got *history, err error) {
	file, err := os.CreateTemp(l.config.Dir, log.city.String()+".fetch-*")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close())
		}
	}()
	if err := os.Remove(file.Name()); err != nil {
		return nil, err
	}
	writer := bufio.NewWriterSize(file, bufferBytes)
	end := checkpoint{records: base.records, chain: base.chain}
	for end.records < target.records {
		page, err := l.page(ctx, source, log.city, end.records)
		if err != nil {
			return nil, err
		}
		for rest := page.Records; len(rest) > 0 && end.records < target.records; {
			size := bytes.IndexByte(rest, '\n') + 1
			if line := rest[:size]; !valid(line) || !Ordered(line) {
				return nil, fmt.Errorf("record %d is malformed", end.records)
			}
			end = end.after(rest[:size])
			if _, err := writer.Write(rest[:size]); err != nil {
				return nil, err
			}
			rest = rest[size:]
		}
	}
	if end.chain != target.chain {
		return nil, errMismatch
	}
	if err := writer.Flush(); err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, 0); err != nil {
		return nil, err
	}
	return &history{log: log, file: file, reader: bufio.NewReaderSize(file, maxLineBytes), end: target}, nil
}

// page fetches one page, which has at least one record.
func (l *Logs) page(ctx context.Context, source Source, city dems.City, first uint64) (dems.CityLogPage, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	page, err := source.CityLog(ctx, city, first, fetchPageBytes)
	switch {
	case err != nil:
		return dems.CityLogPage{}, err
	case page.First != first:
		return dems.CityLogPage{}, fmt.Errorf("asked for record %d, got %d", first, page.First)
	case len(page.Records) == 0:
		return dems.CityLogPage{}, fmt.Errorf("the peer has %d records only", page.Total)
	case page.Records[len(page.Records)-1] != '\n':
		return dems.CityLogPage{}, errors.New("the last line of the page is not whole")
	}
	return page, nil
}
