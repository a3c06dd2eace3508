package freshtoken

import (
	"reflect"
	"testing"
	"unsafe"
)

// Whatever the allocator does, nothing that is written often shares the cache
// line of the pointer that Token reads, or the one that is fetched with it.
func TestTokenHasItsCacheLineToItself(t *testing.T) {
	var s Source
	from, size := unsafe.Offsetof(s.current), unsafe.Sizeof(s.current)
	// A pair of lines that holds current lies within these offsets.
	low, high := int(from+size)-cacheLines, int(from)+cacheLines
	if low < 0 || high > int(unsafe.Sizeof(s)) {
		t.Errorf("a Source has %d bytes, and its neighbours may come as near as from %d to %d", unsafe.Sizeof(s), low, high)
	}
	for f := range reflect.TypeFor[Source]().Fields() {
		if start := int(f.Offset); f.Name != "current" && f.Name != "_" && start < high && start+int(f.Type.Size()) > low {
			t.Errorf("%s, at %d, is too near to current, at %d", f.Name, start, from)
		}
	}
}
