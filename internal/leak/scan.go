package leak

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
)

// Finding is a secret in a file.
type Finding struct {
	Path string
	// Inside are the names of the archive entries that lead to the place, the
	// outermost first; empty for the file itself.
	Inside []string
	Offset int64 // in bytes, from 0, in the file or the innermost entry
	Line   int64 // from 1
	Label
}

// Report is what a search came to.
type Report struct {
	Findings []Finding // by path, entry and offset
	Files    int64
	Bytes    int64 // read, without what archives hold
	// Unread are files and folders that could not be read: what is in them is
	// not known.
	Unread []error
	// Closed are archives that could not be opened, or not to their end: they
	// are damaged, encrypted or larger than a search unpacks. They were searched
	// as they lie.
	Closed []error
}

const (
	// pieceSize is how much of a file is read at once, in bytes.
	pieceSize = 512 << 10
	// maxFindings caps what is kept of one file: more say nothing new.
	maxFindings = 100
)

// Scan looks for the set's secrets in files, and in folders with all that lies
// below, files that git ignores included. It opens zip, tar, gzip, bzip2 and zlib
// archives, also in each other. Symbolic links below a folder are not followed;
// what is neither file nor folder is left alone.
//
// A path that does not exist is an error that wraps fs.ErrNotExist. Otherwise
// errors are ctx's; what could not be read is in the report.
func (s *Set) Scan(ctx context.Context, paths []string) (Report, error) {
	return (&scan{set: s, budget: maxUnpacked}).run(ctx, paths)
}

type scan struct {
	set    *Set
	budget int64 // of each hunt
	mu     sync.Mutex
	report Report
}

func (sc *scan) run(ctx context.Context, paths []string) (Report, error) {
	files := make(chan string, 256)
	var workers sync.WaitGroup
	for range max(2, runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			buf := make([]byte, pieceSize)
			for path := range files {
				if ctx.Err() == nil {
					sc.file(ctx, path, buf)
				}
			}
		})
	}
	var err error
	for _, path := range paths {
		if err = sc.walk(ctx, path, files); err != nil {
			break
		}
	}
	close(files)
	workers.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	slices.SortFunc(sc.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), slices.Compare(a.Inside, b.Inside), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Connection+a.Kind+a.Form, b.Connection+b.Kind+b.Form))
	})
	return sc.report, err
}

func (sc *scan) unread(err error) {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.report.Unread = append(sc.report.Unread, err)
}

// walk sends the regular files at and below root.
func (sc *scan) walk(ctx context.Context, root string, files chan<- string) error {
	real, err := filepath.EvalSymlinks(root) // a link that was named is meant
	if err != nil {
		return err
	}
	return filepath.WalkDir(real, func(path string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		shown := root + path[len(real):]
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) || path == real {
				sc.unread(err)
			}
			return nil
		}
		if d.Type().IsRegular() {
			select {
			case files <- shown:
			case <-ctx.Done():
			}
		}
		return nil
	})
}

// file searches one file.
func (sc *scan) file(ctx context.Context, path string, buf []byte) {
	f, err := os.Open(path)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) { // gone meanwhile
			sc.unread(err)
		}
		return
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return
	}
	h := &hunt{set: sc.set, path: path, budget: sc.budget}
	n, err := h.stream(ctx, nil, f, buf)
	if err != nil {
		sc.unread(fmt.Errorf("read %s: %w", path, err))
	}
	raw := len(h.findings)
	kind := archiveKind(h.head)
	if kind == notArchive && endsAsZip(f, st.Size()) {
		kind = isZip
	}
	if kind != notArchive && ctx.Err() == nil {
		_, err := f.Seek(0, io.SeekStart)
		if err == nil {
			err = h.open(ctx, kind, nil, f, f, st.Size(), buf, 1)
		}
		if err != nil && ctx.Err() == nil {
			h.closed = append(h.closed, fmt.Errorf("%s: %w", path, err))
		}
		// What lies unpacked in an archive has been found there as well, and its
		// entry says more.
		if raw > 0 && len(h.findings)-raw >= raw {
			h.findings = h.findings[raw:]
		}
	}
	sc.mu.Lock()
	defer sc.mu.Unlock()
	sc.report.Files++
	sc.report.Bytes += n
	sc.report.Findings = append(sc.report.Findings, h.findings...)
	sc.report.Closed = append(sc.report.Closed, h.closed...)
}

// hunt is the search through one file and all that is packed in it.
type hunt struct {
	set      *Set
	path     string
	head     []byte // the first bytes of the stream read last
	budget   int64  // how many bytes may still be unpacked
	findings []Finding
	closed   []error
}

// stream searches what r gives, up to its end or an error.
func (h *hunt) stream(ctx context.Context, inside []string, r io.Reader, buf []byte) (total int64, err error) {
	f := h.set.NewFinder()
	line, kept := int64(1), 0
	h.head = h.head[:0]
	for err == nil && ctx.Err() == nil {
		var n int
		n, err = r.Read(buf)
		piece, base := buf[:n], total
		if len(h.head) < headSize {
			h.head = append(h.head, piece[:min(n, headSize-len(h.head))]...)
		}
		f.Feed(piece, func(m Match) {
			if kept++; kept > maxFindings {
				return
			}
			at := line
			if m.Start > base {
				at += int64(bytes.Count(piece[:m.Start-base], []byte{'\n'}))
			}
			h.findings = append(h.findings, Finding{h.path, slices.Clone(inside), m.Start, at, m.Label})
		})
		line += int64(bytes.Count(piece, []byte{'\n'}))
		total += int64(n)
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return total, err
}
