// Counts what the kernels read from memory and write to it, page by page; to be loaded before everything else
// (LD_PRELOAD).
//
// Large blocks are watched: none of their pages may be touched until a touch has faulted, been counted and been
// allowed. The pages allowed last, as many as the cache that is simulated holds, stay so; the oldest one is closed
// again and counts anew when it is needed again. A page that is read and then written counts as both. Meant for one
// thread.
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <vector>

extern "C" void __libc_free(void*);
extern "C" void* __libc_memalign(size_t, size_t);

namespace {

constexpr size_t kPage = 4096;
enum State : uint8_t { closed, read_only, writable };

struct Block {
  char* begin;
  size_t bytes;
  std::vector<State> states;
  bool holds(const void* address) const { return address >= begin && address < begin + bytes; }
};

std::vector<Block> blocks;
std::vector<char*> resident;  // a ring
size_t oldest = 0;
size_t watched_from = 0;  // bytes; 0: nothing is watched
size_t large_from = 0;    // bytes
bool counting = false;
uint64_t pages_read = 0, pages_written = 0, pages_of_small = 0;

Block* block_of(const void* address) {
  for (Block& block : blocks) {
    if (block.holds(address)) return &block;
  }
  return nullptr;
}

void set(Block& block, char* page, State state) {
  const int allowed[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
  mprotect(page, kPage, allowed[state]);
  block.states[(page - block.begin) / kPage] = state;
}

void bring_in(char* page) {
  if (char* out = resident[oldest]) {
    if (Block* block = block_of(out)) set(*block, out, closed);
  }
  resident[oldest] = page;
  oldest = (oldest + 1) % resident.size();
}

void touched(int number, siginfo_t* info, void* context) {
  char* page = reinterpret_cast<char*>(reinterpret_cast<uintptr_t>(info->si_addr) / kPage * kPage);
  Block* block = counting ? block_of(page) : nullptr;
  if (block == nullptr) {  // a true fault: it comes again, and ends the process
    signal(number, SIG_DFL);
    return;
  }
  const bool writes = static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2;
  if (block->states[(page - block->begin) / kPage] == closed) bring_in(page);
  ++(block->bytes < large_from ? pages_of_small : writes ? pages_written : pages_read);
  set(*block, page, writes ? writable : read_only);
}

}  // namespace

extern "C" {

// Blocks of at least so many bytes that are allocated from now on are watched.
void watch_from(size_t bytes) { watched_from = bytes; }

// Begins to count, with a cache of so many bytes that is empty; blocks of fewer bytes than `large` are counted apart.
void start_counting(size_t cache_bytes, size_t large) {
  large_from = large;
  resident.assign(cache_bytes / kPage, nullptr);
  oldest = pages_read = pages_written = pages_of_small = 0;
  counting = true;
  struct sigaction action{};
  action.sa_sigaction = touched;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  for (Block& block : blocks) {
    mprotect(block.begin, block.bytes, PROT_NONE);
    block.states.assign(block.bytes / kPage, closed);
  }
}

// Ends it; the bytes since: read, written, and both together of smaller blocks.
void stop_counting(uint64_t bytes[3]) {
  counting = false;
  for (Block& block : blocks) mprotect(block.begin, block.bytes, PROT_READ | PROT_WRITE);
  bytes[0] = pages_read * kPage;
  bytes[1] = pages_written * kPage;
  bytes[2] = pages_of_small * kPage;
}

int posix_memalign(void** out, size_t alignment, size_t bytes) {
  if (watched_from == 0 || bytes < watched_from) {
    *out = __libc_memalign(alignment, bytes);
    return *out == nullptr ? 12 : 0;  // ENOMEM
  }
  const size_t whole = (bytes + kPage - 1) / kPage * kPage;
  void* memory =
      mmap(nullptr, whole, counting ? PROT_NONE : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 12;
  blocks.push_back({static_cast<char*>(memory), whole, std::vector<State>(whole / kPage, closed)});
  *out = memory;
  return 0;
}

void free(void* memory) {
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (blocks[i].begin != memory) continue;
    for (char*& page : resident) {
      if (blocks[i].holds(page)) page = nullptr;
    }
    munmap(memory, blocks[i].bytes);
    blocks.erase(blocks.begin() + i);
    return;
  }
  __libc_free(memory);
}
}
