package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
)

// The head of a bbolt file, in bytes: two pages, each a page header and a meta block that ends in its checksum.
const (
	pageHeaderBytes = 16
	metaBytes       = 56 // without the checksum
	pageSizeOffset  = pageHeaderBytes + 8
	metaMagic       = 0xED0CDAED
)

// checkMeta makes sure that both meta blocks of a bbolt file are whole. bbolt would take the other one where one is
// damaged, and with it the state before the last write, which may have been a vote or an acknowledged entry. A crash does
// not leave one damaged: a meta block is far smaller than what disks write at once.
func checkMeta(path string) (err error) {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	head := make([]byte, pageSizeOffset+4)
	if _, err := file.ReadAt(head, 0); err != nil {
		return fmt.Errorf("its head: %w", err)
	}
	pageSize := binary.NativeEndian.Uint32(head[pageSizeOffset:])
	if pageSize < 1<<9 || pageSize > 1<<20 || pageSize&(pageSize-1) != 0 {
		return errors.New("its head has no page size")
	}
	for number := range int64(2) {
		block := make([]byte, metaBytes+8)
		if _, err := file.ReadAt(block, number*int64(pageSize)+pageHeaderBytes); err != nil {
			return fmt.Errorf("meta page %d: %w", number, err)
		}
		sum := fnv.New64a()
		_, _ = sum.Write(block[:metaBytes]) // never fails
		if binary.NativeEndian.Uint32(block) != metaMagic || binary.NativeEndian.Uint64(block[metaBytes:]) != sum.Sum64() {
			return fmt.Errorf("meta page %d has a wrong checksum", number)
		}
	}
	return nil
}
