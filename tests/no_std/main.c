/* Calls the static library the way firmware would. The alarm ends a panic, which can only spin. */
#include <stdio.h>
#include <unistd.h>

int rankbit_no_std(void);

int main(void) {
    alarm(120);
    int failed = rankbit_no_std();
    if (failed)
        printf("no_std: piece %d failed (tests/no_std/src/work.rs)\n", failed);
    return failed;
}
