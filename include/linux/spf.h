/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Speculative page faults: what an architecture's fault handler calls.
 *
 * A fault whose page table is present is resolved inside one RCU section, with
 * neither mmap_lock nor the VMA lock. The handlers work on a copy of the VMA,
 * and compare vm_lock_seq of the VMA with its value at the time of the copy
 * once they hold the page table lock. A writer stores a new vm_lock_seq before
 * it takes any page table lock: either it sees what the fault did, or the fault
 * sees the sequence and gives up.
 *
 * mmap_lock_speculate_try_begin() and mmap_lock_speculate_retry() do the same
 * for readers of the whole mm, who are disturbed by each of its writers. A
 * fault is disturbed by writers of its VMA only.
 */
#ifndef _LINUX_SPF_H
#define _LINUX_SPF_H

#include <linux/jump_label.h>
#include <linux/mm_types.h>
#include <linux/spf_abort.h>

struct pt_regs;

/**
 * struct spf_fault - What an architecture knows of a page fault
 * @address: The faulting address
 * @error_code: How the architecture describes the access, for
 *	arch_access_error()
 * @regs: The registers of the fault, for who counts and traces it
 * @flags: FAULT_FLAG_xxx flags
 */
struct spf_fault {
	unsigned long address;
	unsigned long error_code;
	struct pt_regs *regs;
	unsigned int flags;
};

/**
 * struct vma_speculation - A page fault on its way without a lock
 * @vma: Copy of the fields of the VMA that handlers of speculative faults read;
 *	others are not initialised
 * @live: The VMA; read for vm_lock_seq, and by tracepoints for vm_flags, which
 *	decide nothing
 * @seq: vm_lock_seq of @live at the start of the fault
 * @pmdp: The entry of the page table's page
 * @pmd: The value of that entry as the walk read it
 * @found: What @pmd has become, if that is why the fault is aborted
 * @numa: Arguments of a task_numa_fault() that is still to be called, if
 *	@numa.pages is not 0
 * @reason: Why the fault is aborted. NR_SPF_ABORTS if it is not, and the page
 *	table lock was taken and nothing had changed
 *
 * Lives on the stack of the faulting task, while handlers work on it.
 */
struct vma_speculation {
	struct vm_area_struct vma;
	struct vm_area_struct *live;
	unsigned int seq;
	pmd_t *pmdp;
	pmd_t pmd;
	pmd_t found;
	struct {
		int last_cpupid;
		int nid;
		int pages;
		int flags;
	} numa;
	enum spf_abort reason;
};

DECLARE_STATIC_KEY_TRUE(speculative_page_fault_key);

/* A constant where it is not configured; else a branch that is patched out. */
static inline bool speculative_page_fault_enabled(void)
{
	return IS_ENABLED(CONFIG_SPECULATIVE_PAGE_FAULT) &&
	       static_branch_likely(&speculative_page_fault_key);
}

bool arch_access_error(struct vm_area_struct *vma, unsigned int flags,
		       unsigned long error_code);
bool __vma_speculate_fault(const struct spf_fault *fault,
			   struct vm_area_struct **vmap);

/* See __vma_speculate_fault(), which this passes one argument instead of four. */
static inline bool vma_speculate_fault(struct pt_regs *regs,
				       unsigned long error_code,
				       unsigned long address, unsigned int flags,
				       struct vm_area_struct **vmap)
{
	const struct spf_fault fault = {
		.address = address,
		.error_code = error_code,
		.regs = regs,
		.flags = flags,
	};

	return __vma_speculate_fault(&fault, vmap);
}

#endif /* _LINUX_SPF_H */
