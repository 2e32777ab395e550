package citylog

import (
	"context"
	"errors"
	"io"

	"dems/fsm"
)

// Run writes the logs until ctx ends, then writes what is queued, makes everything durable and closes the files. It
// returns early with the first write that failed. What is appended after that is lost, and so must be the node.
func (l *Logs) Run(ctx context.Context) (err error) {
	fetching, stop := context.WithCancel(context.Background())
	defer func() {
		stop()
		close(l.done)
		l.group.Wait()
		l.discard()
		err = errors.Join(err, l.Close())
	}()
	if err := l.compareAll(fetching, l.start); err != nil {
		return err
	}
	for {
		m, more := l.next(ctx)
		if !more {
			break
		}
		if err := l.handle(fetching, m); err != nil {
			return err
		}
		if err := l.copySome(fetching); err != nil {
			return err
		}
		if len(l.queue) == 0 {
			if err := l.each((*log).flush); err != nil {
				return err
			}
		}
	}
	if errors.Is(context.Cause(ctx), ErrAbandoned) {
		return nil
	}
	return l.finish(fetching)
}

// next waits for a message unless there is history to copy. It returns false when ctx has ended.
func (l *Logs) next(ctx context.Context) (message, bool) {
	for _, log := range l.logs {
		if log.copying != nil {
			select {
			case m := <-l.queue:
				return m, true
			case <-ctx.Done():
				return message{}, false
			default:
				return message{}, true
			}
		}
	}
	select {
	case m := <-l.queue:
		return m, true
	case <-ctx.Done():
		return message{}, false
	}
}

// finish writes what is queued and makes everything durable.
func (l *Logs) finish(fetching context.Context) error {
	for {
		select {
		case m := <-l.queue:
			if err := l.handle(fetching, m); err != nil {
				return err
			}
			continue
		default:
		}
		return l.each((*log).sync)
	}
}

// discard lets go of what nobody will handle.
func (l *Logs) discard() {
	for _, log := range l.logs {
		log.copying.close()
	}
	for {
		select {
		case m := <-l.queue:
			m.history.close()
			if m.sync != nil {
				m.sync.reply <- ErrStopped
			}
		default:
			return
		}
	}
}

func (h *history) close() {
	if h != nil {
		_ = h.file.Close() // nameless, and read only
	}
}

func (l *Logs) each(do func(*log) error) error {
	for _, log := range l.logs {
		if err := do(log); err != nil {
			return err
		}
	}
	return nil
}

func (l *Logs) handle(ctx context.Context, m message) error {
	for _, record := range m.records {
		if err := l.record(ctx, record); err != nil {
			return err
		}
	}
	for _, read := range m.reads {
		if log := l.find(read.City); log != nil {
			if err := log.append(read.Line); err != nil {
				return err
			}
		}
	}
	switch {
	case m.restored != nil:
		return l.compareAll(ctx, m.restored)
	case m.sync != nil:
		err := l.sync(m.sync.state)
		m.sync.reply <- err
		if errors.Is(err, ErrGap) {
			return nil
		}
		return err
	case m.damaged != nil:
		if err := l.setAside(m.damaged); err != nil {
			m.history.close()
			return err
		}
		m.damaged.copying = m.history
	case m.history != nil:
		m.history.log.copying = m.history
	}
	return nil
}

// record takes one ordered record.
func (l *Logs) record(ctx context.Context, record fsm.Record) error {
	log := l.find(record.City)
	switch {
	case log.gap:
		log.hold(record, l.held)
	case record.Number < log.end.records:
		return l.confirm(ctx, log, record)
	case record.Number == log.end.records:
		return log.append(record.Line)
	default:
		log.hold(record, l.held)
		l.startFetching(ctx, log)
	}
	return nil
}

// confirm compares a record that Raft replays with what the log has: when the replay has reached the end of the log,
// both must have the same chain digest.
func (l *Logs) confirm(ctx context.Context, log *log, record fsm.Record) error {
	at := log.replayed
	if at == nil || record.Number != at.records {
		return nil
	}
	at.records++
	at.chain = fsm.ChainRecord(at.chain, record.Line)
	if at.records < log.end.records {
		return nil
	}
	log.replayed = nil
	if at.chain != log.end.chain {
		return l.damaged(ctx, log)
	}
	return nil
}

// compareAll compares the logs with the replicated state after the start or after a snapshot was installed.
func (l *Logs) compareAll(ctx context.Context, state []position) error {
	for i, log := range l.logs {
		if err := l.compare(ctx, log, state[i]); err != nil {
			return err
		}
	}
	return nil
}

func (l *Logs) compare(ctx context.Context, log *log, state position) error {
	switch {
	case log.gap:
		log.required = max(log.required, state.records)
	case state.records > log.end.records:
		l.startFetching(ctx, log)
	case state.records < log.end.records:
		log.replayed = &state
	case state.chain != log.end.chain:
		return l.damaged(ctx, log)
	}
	return nil
}

// damaged puts a log aside that is not the city's, and fetches all of it anew.
func (l *Logs) damaged(ctx context.Context, log *log) error {
	if err := l.setAside(log); err != nil {
		return err
	}
	l.startFetching(ctx, log)
	return nil
}

func (l *Logs) setAside(log *log) error {
	l.config.Logger.Error("a city log is not what the cluster recorded: it is put aside and fetched from peers",
		"path", log.path, "records", log.end.records)
	return log.setAside()
}

// startFetching starts the goroutine that fetches what is missing after the end of a log.
func (l *Logs) startFetching(ctx context.Context, log *log) {
	log.gap = true
	log.replayed = nil
	base := position{log.end.records, log.end.chain}
	l.config.Logger.Info("fetching city log history", "city", log.city, "from", base.records)
	l.group.Go(func() { l.fetch(ctx, log, base) })
}

// copySome moves fetched records into the logs that wait for them, and then those that were held back.
func (l *Logs) copySome(ctx context.Context) error {
	for _, log := range l.logs {
		if log.copying == nil {
			continue
		}
		for written := 0; written < copyBytes; {
			line, err := log.copying.reader.ReadSlice('\n')
			if err == io.EOF {
				if err := l.copied(ctx, log); err != nil {
					return err
				}
				break
			}
			if err != nil {
				return err
			}
			if err := log.append(line); err != nil {
				return err
			}
			written += len(line)
		}
	}
	return nil
}

// copied closes the gap of a log, or goes on fetching where more is missing by now.
func (l *Logs) copied(ctx context.Context, log *log) error {
	log.copying.close()
	log.copying = nil
	closed, err := log.release()
	if err != nil {
		return err
	}
	if !closed || log.end.records < log.required {
		l.startFetching(ctx, log)
		return nil
	}
	log.gap = false
	l.config.Logger.Info("city log is complete", "city", log.city, "records", log.end.records)
	return nil
}

// sync makes the logs durable, which must be complete up to a state.
func (l *Logs) sync(state State) error {
	for _, log := range l.logs {
		if records, _ := state.CityLog(log.city); log.gap || log.end.records < records {
			return ErrGap
		}
		if err := log.sync(); err != nil {
			return err
		}
	}
	return nil
}
