package citylog

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"slices"

	"dems"
)

// MaxPageBytes bounds a page, except that a page has at least one record where there is one.
const MaxPageBytes = 1 << 20

// Page returns ordered records of a city from number first on, as many whole lines as fit into maxBytes, at least one
// where there is one. It is safe for concurrent use. Its Total counts what has been written: the last records may follow
// a moment later.
func (l *Logs) Page(city dems.City, first uint64, maxBytes int) (dems.CityLogPage, error) {
	log := l.find(city)
	if log == nil {
		return dems.CityLogPage{}, fmt.Errorf("no city %s", city)
	}
	maxBytes = min(max(maxBytes, 1), MaxPageBytes)
	log.mu.Lock()
	end, from := log.shownEnd, before(log.checkpoints, first)
	log.mu.Unlock()
	page := dems.CityLogPage{First: first, Total: end.records}
	if first >= end.records {
		return page, nil
	}
	file, err := os.Open(log.path)
	if err != nil {
		return dems.CityLogPage{}, err
	}
	defer file.Close() // only read
	reader := bufio.NewReaderSize(io.NewSectionReader(file, from.offset, end.offset-from.offset), maxLineBytes)
	for number := from.records; number < end.records; {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return dems.CityLogPage{}, fmt.Errorf("city log %s: record %d: %w", log.path, number, err)
		}
		if !Ordered(line) {
			continue
		}
		if number >= first {
			if len(page.Records) > 0 && len(page.Records)+len(line) > maxBytes {
				break
			}
			page.Records = append(page.Records, line...)
		}
		number++
	}
	page.Records = slices.Clip(page.Records)
	return page, nil
}
