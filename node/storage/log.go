package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// Log keeps Raft's entries, terms and votes in raft.db. It implements raft.LogStore and raft.StableStore.
//
// Every entry is stored with a checksum over its index, term, type and data, and read back only if it fits. A write that
// fails, or an entry that is damaged, is reported to Config.Fail and ends the calling goroutine by runtime.Goexit: the
// goroutine must be one of Raft's or one that expects it.
type Log struct {
	bolt    *raftboltdb.BoltStore
	path    string
	dir     string
	fail    func(error)
	observe func(time.Duration)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum covers everything of an entry that decides what it means.
func checksum(entry *raft.Log) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[0:], entry.Index)
	binary.LittleEndian.PutUint64(head[8:], entry.Term)
	head[16] = byte(entry.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli), castagnoli, entry.Data)
	return binary.LittleEndian.AppendUint32(nil, sum)
}

// open takes the checksum off an entry that was read for an index.
func open(entry *raft.Log, index uint64) error {
	if entry.Index != index {
		return fmt.Errorf("it holds entry %d", entry.Index)
	}
	if len(entry.Extensions) != 4 || string(entry.Extensions) != string(checksum(entry)) {
		return errors.New("wrong checksum")
	}
	entry.Extensions = nil
	return nil
}

// end reports an error and ends the goroutine.
func (l *Log) end(err error) {
	l.fail(err)
	runtime.Goexit()
}

// written ends the goroutine if a write failed.
func (l *Log) written(what string, err error) error {
	if err != nil {
		l.end(WriteError(what, l.dir, err))
	}
	return nil
}

// FirstIndex implements raft.LogStore.
func (l *Log) FirstIndex() (uint64, error) { return l.bolt.FirstIndex() }

// LastIndex implements raft.LogStore.
func (l *Log) LastIndex() (uint64, error) { return l.bolt.LastIndex() }

// GetLog implements raft.LogStore.
func (l *Log) GetLog(index uint64, entry *raft.Log) error {
	err := l.bolt.GetLog(index, entry)
	if errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	if err == nil {
		err = open(entry, index)
	}
	if err != nil {
		l.end(corruptAt(l.path, index, err))
	}
	return nil
}

// Contradicts tells whether the log contradicts a snapshot from the leader. If so the node must stop, without having
// acknowledged the snapshot: the next Open removes the log.
func (l *Log) Contradicts(snapshot *raft.SnapshotMeta) (bool, error) {
	return contradicts(l.bolt, snapshot)
}

// StoreLog implements raft.LogStore.
func (l *Log) StoreLog(entry *raft.Log) error { return l.StoreLogs([]*raft.Log{entry}) }

// StoreLogs implements raft.LogStore. The entries are durable when it returns.
func (l *Log) StoreLogs(entries []*raft.Log) error {
	start := time.Now()
	copies := make([]raft.Log, len(entries))
	sealed := make([]*raft.Log, len(entries))
	for i, entry := range entries {
		copies[i] = *entry
		copies[i].Extensions = checksum(entry)
		sealed[i] = &copies[i]
	}
	err := l.bolt.StoreLogs(sealed)
	l.observe(time.Since(start))
	return l.written("raft log", err)
}

// DeleteRange implements raft.LogStore.
func (l *Log) DeleteRange(first, last uint64) error {
	return l.written("raft log", l.bolt.DeleteRange(first, last))
}

// Set implements raft.StableStore.
func (l *Log) Set(key, value []byte) error {
	return l.written("raft term and vote", l.bolt.Set(key, sealValue(key, value)))
}

// Get implements raft.StableStore.
func (l *Log) Get(key []byte) ([]byte, error) {
	sealed, err := l.bolt.Get(key)
	if err != nil {
		return nil, err
	}
	value, err := openValue(key, sealed)
	if err != nil {
		l.end(corrupt(l.path, err))
	}
	return value, nil
}

// SetUint64 implements raft.StableStore.
func (l *Log) SetUint64(key []byte, value uint64) error {
	return l.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (l *Log) GetUint64(key []byte) (uint64, error) {
	value, err := l.Get(key)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(value), nil
}

// What Raft keeps in the stable store.
const (
	keyTerm     = "CurrentTerm"
	keyVoteTerm = "LastVoteTerm"
	keyVote     = "LastVoteCand"
)

// sealValue appends a checksum to a value.
func sealValue(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return binary.LittleEndian.AppendUint32(append([]byte(nil), value...), sum)
}

// openValue is the inverse of sealValue.
func openValue(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 || string(sealValue(key, sealed[:len(sealed)-4])) != string(sealed) {
		return nil, fmt.Errorf("%s has a wrong checksum", key)
	}
	value := sealed[:len(sealed)-4]
	if string(key) != keyVote && len(value) != 8 {
		return nil, fmt.Errorf("%s has %d bytes", key, len(value))
	}
	return value, nil
}
