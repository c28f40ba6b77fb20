/* What this machine can do at most: bytes read a second, float and int8 operations a second. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512VNNI__) || defined(__AVXVNNI__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#define LINE 64
#define STREAMS 4
#define MOST_THREADS 256

#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
#if defined(__aarch64__)
#define CHAINS 16 /* four pipes, four cycles of latency, 32 registers */
#else
#define CHAINS 10
#endif

typedef uint64_t line __attribute__((vector_size(LINE)));
typedef float floats __attribute__((vector_size(WIDTH)));

struct job {
  const char *data;
  size_t bytes;
  double seconds, began, ended, done;
  uint64_t (*work)(struct job *);
  atomic_int *waiting;
  uint64_t sum;
};

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void *start(void *argument) {
  struct job *job = argument;
  atomic_fetch_sub(job->waiting, 1);
  while (atomic_load(job->waiting) > 0) {
  }
  job->began = now();
  job->sum = job->work(job);
  job->ended = now();
  return NULL;
}

/* Seconds from the first start to the last end; less than 0 where no thread could be made. */
static double together(struct job *jobs, int threads) {
  pthread_t ids[MOST_THREADS];
  atomic_int waiting = threads;
  int made = 0;
  for (; made < threads; made++) {
    jobs[made].waiting = &waiting;
    if (pthread_create(&ids[made], NULL, start, &jobs[made])) break;
  }
  if (made < threads) atomic_store(&waiting, 0);
  double began = 1e300, ended = 0;
  for (int i = 0; i < made; i++) {
    pthread_join(ids[i], NULL);
    if (jobs[i].began < began) began = jobs[i].began;
    if (jobs[i].ended > ended) ended = jobs[i].ended;
  }
  return made == threads ? ended - began : -1;
}

/* Several streams, each a quarter of the part: more lines are on their way at once. */
static uint64_t read_all(struct job *job) {
  size_t lines = job->bytes / LINE / STREAMS;
  line sums[2 * STREAMS];
  memset(sums, 0, sizeof sums);
  for (size_t i = 0; i + 1 < lines; i += 2)
    for (int s = 0; s < STREAMS; s++) {
      const line *at = (const line *)job->data + (size_t)s * lines + i;
      sums[2 * s] += at[0];
      sums[2 * s + 1] += at[1];
    }
  for (int s = 1; s < 2 * STREAMS; s++) sums[0] += sums[s];
  uint64_t sum = 0;
  for (int k = 0; k < 8; k++) sum += sums[0][k];
  return sum;
}

static uint64_t multiply_add(struct job *job) {
  floats chains[CHAINS], factor, term;
  for (int k = 0; k < (int)(WIDTH / sizeof(float)); k++) {
    factor[k] = 0.999f;
    term[k] = 1e-3f;
    for (int c = 0; c < CHAINS; c++) chains[c][k] = (float)(c + k);
  }
  double end = now() + job->seconds;
  double steps = 0;
  do {
    for (int i = 0; i < 10000; i++)
      for (int c = 0; c < CHAINS; c++) chains[c] = chains[c] * factor + term;
    steps += 10000;
  } while (now() < end);
  float sum = 0;
  for (int c = 0; c < CHAINS; c++)
    for (int k = 0; k < (int)(WIDTH / sizeof(float)); k++) sum += chains[c][k];
  job->done = steps * CHAINS * 2 * (double)(WIDTH / sizeof(float));
  uint32_t bits;
  memcpy(&bits, &sum, sizeof bits);
  return bits;
}

#if defined(__AVX512VNNI__)
typedef __m512i bytes;
#define DOT(sum, a, b) _mm512_dpbusd_epi32(sum, a, b)
#elif defined(__AVXVNNI__)
typedef __m256i bytes;
#define DOT(sum, a, b) _mm256_dpbusd_avx_epi32(sum, a, b)
#elif defined(__AVX2__)
typedef __m256i bytes;
#define DOT(sum, a, b) \
  _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int32x4_t bytes;
#define DOT(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#endif

#if defined(__AVX512VNNI__)
#define REGISTER "+v"
#elif defined(__aarch64__)
#define REGISTER "+w"
#else
#define REGISTER "+x"
#endif

#ifdef DOT
/* The barrier makes each product new: of the same two numbers it would be made once. */
#define STEP(chain)                      \
  __asm__ volatile("" : REGISTER(a)); \
  chain = DOT(chain, a, b)

/* Chains in variables of their own: gcc keeps an array of them in memory. */
static uint64_t dot_products(struct job *job) {
  bytes a, b, c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11;
  memset(&a, 3, sizeof a);
  memset(&b, 5, sizeof b);
  memset(&c0, 0, sizeof c0);
  c1 = c2 = c3 = c4 = c5 = c6 = c7 = c8 = c9 = c10 = c11 = c0;
  double end = now() + job->seconds;
  double steps = 0;
  do {
    for (int i = 0; i < 10000; i++) {
      STEP(c0); STEP(c1); STEP(c2); STEP(c3); STEP(c4); STEP(c5);
      STEP(c6); STEP(c7); STEP(c8); STEP(c9); STEP(c10); STEP(c11);
    }
    steps += 10000;
  } while (now() < end);
  bytes all[12] = {c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11};
  uint64_t sum = 0;
  for (int c = 0; c < 12; c++) {
    uint64_t part;
    memcpy(&part, &all[c], sizeof part);
    sum += part;
  }
  job->done = steps * 12 * 2 * sizeof(bytes);
  return sum;
}
#endif

static double rate(uint64_t (*work)(struct job *), int threads, double seconds) {
  struct job jobs[MOST_THREADS];
  double done = 0;
  if (threads < 1 || threads > MOST_THREADS) return -1;
  memset(jobs, 0, sizeof jobs);
  for (int i = 0; i < threads; i++) {
    jobs[i].work = work;
    jobs[i].seconds = seconds;
  }
  double spent = together(jobs, threads);
  for (int i = 0; i < threads; i++) done += jobs[i].done;
  return spent > 0 ? done / spent : -1;
}

/* Bytes a second, the best of the repeats; less than 0 where memory or threads are lacking. */
double read_bandwidth(int threads, size_t size, int repeats) {
  struct job jobs[MOST_THREADS];
  void *buffer;
  double best = -1;
  if (threads < 1 || threads > MOST_THREADS) return -1;
  size_t part = size / (size_t)threads / (STREAMS * 2 * LINE) * (STREAMS * 2 * LINE);
  if (part == 0 || posix_memalign(&buffer, 4096, part * (size_t)threads)) return -1;
  memset(buffer, 1, part * (size_t)threads);
  for (int r = 0; r < repeats; r++) {
    memset(jobs, 0, sizeof jobs);
    for (int i = 0; i < threads; i++) {
      jobs[i].work = read_all;
      jobs[i].data = (char *)buffer + (size_t)i * part;
      jobs[i].bytes = part;
    }
    double spent = together(jobs, threads);
    double found = spent > 0 ? (double)(part * (size_t)threads) / spent : -1;
    if (found > best) best = found;
  }
  free(buffer);
  return best;
}

double fma_flops(int threads, double seconds) { return rate(multiply_add, threads, seconds); }

/* 0 where this machine has no such instruction. */
double int8_ops(int threads, double seconds) {
#ifdef DOT
  return rate(dot_products, threads, seconds);
#else
  (void)threads;
  (void)seconds;
  return 0;
#endif
}
