package leak

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

const (
	// maxDepth is how many archives may lie in each other.
	maxDepth = 4
	// maxUnpacked caps in bytes what is unpacked of one file, all that is in it
	// included: a small file may unpack to anything.
	maxUnpacked = 1 << 30
	// maxHeld caps in bytes an archive in an archive, which is held in memory.
	maxHeld = 64 << 20
	// maxEntries caps the entries of one archive.
	maxEntries = 200_000
	// headSize is what is needed to know an archive, in bytes: tar has its name
	// at 257.
	headSize = 262
)

type kind int

const (
	notArchive kind = iota
	isZip
	isTar
	isGzip
	isBzip2
	isZlib // a loose object of git
)

func archiveKind(head []byte) kind {
	switch {
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return isZip
	case bytes.HasPrefix(head, []byte("\x1f\x8b\x08")):
		return isGzip
	case bytes.HasPrefix(head, []byte("BZh")):
		return isBzip2
	case len(head) >= headSize && string(head[257:262]) == "ustar":
		return isTar
	case len(head) >= 2 && head[0] == 0x78 && (head[1] == 0x01 || head[1] == 0x5e || head[1] == 0x9c || head[1] == 0xda):
		return isZlib
	}
	return notArchive
}

// endsAsZip reports whether a file has the end of a zip, with a comment of up to a
// kilobyte: one may stand behind a program that unpacks it (a Python zipapp).
func endsAsZip(r io.ReaderAt, size int64) bool {
	tail := make([]byte, min(size, 22+1<<10))
	n, err := r.ReadAt(tail, size-int64(len(tail)))
	return n == len(tail) && (err == nil || errors.Is(err, io.EOF)) && bytes.Contains(tail, []byte("PK\x05\x06"))
}

var (
	errTooDeep   = errors.New("too many archives in each other")
	errTooLarge  = fmt.Errorf("it unpacks to more than %d MiB", maxUnpacked>>20)
	errTooMany   = errors.New("it has too many entries")
	errEncrypted = errors.New("it is encrypted")
	errNotOpened = errors.New("an archive that is damaged, encrypted or too large")
)

// open searches what an archive holds. at and size are for zip, which is read
// from its end; the others are read through from r.
func (h *hunt) open(ctx context.Context, k kind, inside []string, r io.Reader, at io.ReaderAt, size int64, buf []byte, depth int) error {
	if depth > maxDepth {
		return errTooDeep
	}
	switch k {
	case isZip:
		return h.zip(ctx, inside, at, size, buf, depth)
	case isTar:
		return h.tar(ctx, inside, r, buf, depth)
	case isGzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		return h.unpacked(ctx, inside, unpackedName, z, buf, depth)
	case isBzip2:
		return h.unpacked(ctx, inside, unpackedName, bzip2.NewReader(r), buf, depth)
	case isZlib:
		z, err := zlib.NewReader(r)
		if err == nil {
			err = h.unpacked(ctx, inside, unpackedName, z, buf, depth)
		}
		if errors.Is(err, errTooLarge) {
			return err
		}
	}
	return nil // also where two bytes were too few to know that it was one
}

// unpackedName stands for what a compressed file holds.
const unpackedName = "(unpacked)"

func (h *hunt) zip(ctx context.Context, inside []string, r io.ReaderAt, size int64, buf []byte, depth int) error {
	z, err := zip.NewReader(r, size)
	if err != nil {
		return err
	}
	if len(z.File) > maxEntries {
		return errTooMany
	}
	var failed error
	for _, entry := range z.File {
		if entry.FileInfo().IsDir() {
			continue
		}
		if entry.Flags&1 != 0 {
			return errEncrypted
		}
		content, err := entry.Open()
		if err == nil {
			err = h.unpacked(ctx, inside, entry.Name, content, buf, depth)
			_ = content.Close()
		}
		if err != nil {
			failed = err
		}
		if errors.Is(err, errTooLarge) {
			break
		}
	}
	return failed
}

func (h *hunt) tar(ctx context.Context, inside []string, r io.Reader, buf []byte, depth int) error {
	t := tar.NewReader(r)
	var failed error
	for n := 0; ; n++ {
		entry, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return failed
		case err != nil:
			return err
		case n > maxEntries:
			return errTooMany
		}
		// Whatever its type, an entry may have content.
		if err := h.unpacked(ctx, inside, entry.Name, t, buf, depth); errors.Is(err, errTooLarge) {
			return err
		} else if err != nil {
			failed = err
		}
	}
}

// unpacked searches one entry of an archive, and what is packed in that.
func (h *hunt) unpacked(ctx context.Context, inside []string, name string, r io.Reader, buf []byte, depth int) error {
	limited := &budget{r, &h.budget}
	head := make([]byte, headSize)
	n, err := io.ReadFull(limited, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	rest := io.MultiReader(bytes.NewReader(head[:n]), limited)
	within := append(slices.Clone(inside), name)
	k := archiveKind(head[:n])
	if name == unpackedName && k != notArchive {
		within = inside // a compressed archive is one thing to people
	}
	switch k {
	case notArchive:
		_, err = h.stream(ctx, within, rest, buf)
		return err
	case isTar:
		err = h.open(ctx, k, within, rest, nil, 0, buf, depth+1)
		// Behind the end, or behind a fault, there may be more.
		_, serr := h.stream(ctx, within, rest, buf)
		return errors.Join(err, serr)
	}
	// What cannot be unpacked is searched as it lies, from its beginning.
	held, err := io.ReadAll(io.LimitReader(rest, maxHeld))
	if err != nil {
		return err
	}
	err = h.open(ctx, k, within, io.MultiReader(bytes.NewReader(held), limited), bytes.NewReader(held), int64(len(held)), buf, depth+1)
	if err == nil && k != isZlib {
		_, err = h.stream(ctx, within, limited, buf)
		return err
	}
	_, serr := h.stream(ctx, within, io.MultiReader(bytes.NewReader(held), limited), buf)
	if err != nil && k == isZip {
		err = fmt.Errorf("%s in it: %w", name, errNotOpened)
	}
	return errors.Join(err, serr)
}

// budget is a reader that ends with errTooLarge when too much has been read
// through all of its kind.
type budget struct {
	r    io.Reader
	left *int64
}

func (b *budget) Read(p []byte) (int, error) {
	if *b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), *b.left)])
	*b.left -= int64(n)
	return n, err
}
