# Completion of `neuro` for bash; written by `python -m neurocli.cli.completions bash`.

_neuro_list_models='fmamba fmamba_mlp fmamba_conv_mlp fmamba_mamba_head fmamba_mamba_head_fn unet3d_xs unet3d_s unet3d_m unet3d_l unet3d_stride_xs unet3d_stride_s unet3d_stride_m unet3d_stride_l unetr swin_unetr mobile_unetr mobile_unetr_3d dualbranch_01_unet_xs dualbranch_01_unet_s dualbranch_01_unet_m dualbranch_01_unet_l dualbranch_02_unet_xs dualbranch_02_unet_s dualbranch_02_unet_m dualbranch_02_unet_l dualbranch_03_unet_xs dualbranch_03_unet_s dualbranch_03_unet_m dualbranch_03_unet_l dualbranch_04_unet_xs dualbranch_04_unet_s dualbranch_04_unet_m dualbranch_04_unet_l dualbranch_05_unet_xs dualbranch_05_unet_s dualbranch_05_unet_m dualbranch_05_unet_l dualbranch_06_unet_xs dualbranch_06_unet_s dualbranch_06_unet_m dualbranch_06_unet_l dualbranch_07_unet_xs dualbranch_07_unet_s dualbranch_07_unet_m dualbranch_07_unet_l dualbranch_mobilenetv2_dilated_xs dualbranch_mobilenetv2_dilated_s dualbranch_mobilenetv2_dilated_m dualbranch_mobilenetv2_dilated_l dualbranch_mobilenetv2_dilated_fixed_xs dualbranch_mobilenetv2_dilated_fixed_s dualbranch_mobilenetv2_dilated_fixed_m dualbranch_mobilenetv2_dilated_fixed_l dualbranch_13_unet_xs dualbranch_13_unet_s dualbranch_13_unet_m dualbranch_13_unet_l dualbranch_14_mobilenetv2_expand2_xs dualbranch_14_mobilenetv2_expand2_s dualbranch_14_mobilenetv2_expand2_m dualbranch_14_mobilenetv2_expand2_l dualbranch_14_ghostnet_xs dualbranch_14_ghostnet_s dualbranch_14_ghostnet_m dualbranch_14_ghostnet_l dualbranch_14_dilated_xs dualbranch_14_dilated_s dualbranch_14_dilated_m dualbranch_14_dilated_l dualbranch_14_convnext_xs dualbranch_14_convnext_s dualbranch_14_convnext_m dualbranch_14_convnext_l dualbranch_14_shufflenetv2_xs dualbranch_14_shufflenetv2_s dualbranch_14_shufflenetv2_m dualbranch_14_shufflenetv2_l dualbranch_14_shufflenetv2_dilated_xs dualbranch_14_shufflenetv2_dilated_s dualbranch_14_shufflenetv2_dilated_m dualbranch_14_shufflenetv2_dilated_l dualbranch_14_shufflenetv2_lk_xs dualbranch_14_shufflenetv2_lk_s dualbranch_14_shufflenetv2_lk_m dualbranch_14_shufflenetv2_lk_l unet3d_2modal_s unet3d_4modal_s dualbranch_2modal_unet_s quadbranch_4modal_unet_s quadbranch_4modal_attention_unet_s cebra cebra-offset1 cebra-offset5 cebra-offset10 cebra-offset36 gene_pair gene_sequence'
_neuro_list_presets='fmri/contrastive fmri/hcp-sex fmri/mim fmri/neuromamba-small fmri/sex-cohort fmri/tiny brats/baseline brats/nnunet brats/swin-unetr brats/synthetic brats/tiny calcium/allen-movie calcium/default calcium/seed-allen calcium/tiny genes/pair genes/sequence-large genes/sequence genes/sweep genes/tiny'
_neuro_list_datasets='bids nifti s1200 abcd ukb hbn abide adni frames dummy brats2018 brats2021 brats2023 allen suite2p latents'
_neuro_list_rooms='fmri brats calcium genes'
_neuro_list_objectives='ar mim contrastive labels time hybrid align'
_neuro_list_keys='model.embed_dim= model.depth= model.d_state= model.d_conv= model.expand= model.patch_size= model.pe_method= model.token_mask= model.chunk_size= model.bidirectional= model.pe_seed= model.mup_base_dim= data.path= data.split= data.table= data.batch_size= data.eval_batch_size= data.prefetch= data.join= data.mixed_grids= data.sequence_length= data.stride_within= data.stride_between= data.scaling= data.img_size= data.augment= data.augment_strength= data.events= data.event_lag_s= task.objective= task.target= task.target_type= task.label_smoothing= task.target_scaling= task.scale_by= task.threshold= task.site_column= task.baselines= task.explain_baselines= task.explain_steps= task.explain_smooth= task.explain_cubes= task.atlas= task.loss= task.ar_target= task.place_jumps= task.mask_ratio= task.mask_type= task.mask_patch_size= task.contrast= task.temperature= task.projection_dim= train.epochs= train.steps= train.lr= train.lr_scaling= train.lr_base_batch= train.optimizer= train.betas= train.momentum= train.weight_decay= train.decay_all= train.schedule= train.warmup= train.min_lr_ratio= train.restart_cycle= train.restart_gamma= train.clip_norm= train.accumulate= train.precision= train.ema= train.early_stop= train.max_bad_steps= train.spike_factor= train.eval_every_epochs= train.parallel= train.zero_stage= train.sequence_parallel= train.sharded_saves= train.recompute= train.init_from= train.freeze= run.seed= run.device= run.threads= run.checkpoint_every_steps= run.log_every_steps= model.head= model.keep_dt_init= model.modalities= model.width= model.branches= model.branch_stages= model.stem= model.encoder= model.fused= model.fused_widths= model.decoder= model.decoder_attention= model.skip_width= model.modality_attention= model.norm= model.act= model.ffn_ratio= model.large_kernel= model.mvit_fusion= model.deep_supervision= data.modalities= data.dims= data.patch= data.samples_per_case= data.foreground= task.sliding_window= task.roi= task.overlap= task.blend= task.extent= task.tta= task.average= task.empty= task.hd95= task.lesions= task.baseline= task.explain_of= task.explain_weighting= task.explain_cases= task.explain_stages= model.img_size= model.feature_size= model.hidden_size= model.mlp_dim= model.num_heads= model.depths= model.window_size= model.use_v2= model.variant= model.dropout= model.slice_axis= model.output_dim= model.hidden_dim= model.neuron_dropout= data.mode= data.max_sessions= data.rate_hz= data.highpass_hz= data.segments= data.epoch_steps= data.sampling= task.time_offsets= task.delta= task.learn_temperature= task.min_temperature= task.distance= task.time_dims= task.null= task.n_nulls= model.projection_dim= model.logit_scale_init= model.transformer_hidden_dim= model.transformer_num_layers= model.transformer_num_heads= model.transformer_ff_dim= model.transformer_dropout= model.transformer_norm= model.pooling= model.pos_encoding= model.gene_input= model.gene_tower= data.genes= data.gene= data.gene_subset= data.latent_pattern= data.npz_key= data.iid_column= data.gene_dim= data.iid_match= data.nonfinite= data.duplicates= data.missing_genes= data.min_gene_coverage= data.val_share= data.test_share= data.group= data.exclude= data.covariates= data.standardize= data.cohort= task.multi_positive= task.logit_scale_max= task.micro_batch= task.tile= task.best_metric= task.permutations= task.warm_start= task.screen_p= task.patience= task.sweep_width= task.pca= task.ridge= task.refit= task.hard_gallery='

_neuro_page() {
    verbs= options= valued=
    case "$1" in
        '') verbs='preprocess convert-hdf5 split train evaluate flops profile align-genes report models presets config doctor' options='--version -h --help' valued='' ;;
        'preprocess') verbs='' options='-o --out --space --scaling --mask --tr --metadata --confounds --high-pass --low-pass --dtype --frames --figure -s --set --seed -j --jobs --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out --space --scaling --mask --tr --metadata --confounds --high-pass --low-pass --dtype --frames --figure -s --set --seed -j --jobs' ;;
        'convert-hdf5') verbs='' options='-o --out --layout --patch --compression --dtype --scaling --verify --check --expect --quarantine --delete --repack -j --jobs --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out --layout --patch --compression --dtype --scaling --expect --quarantine -j --jobs' ;;
        'split') verbs='' options='-o --out --id-column --train --val --folds --format --stratify --group --kinship --site-policy --site-column --fail-on-imbalance --sample --limit --treatment --covariates --exact --caliper --ratio --match --order --replace --discard -s --set --seed --seeds --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out --id-column --train --val --folds --format --stratify --group --kinship --site-policy --site-column --sample --limit --treatment --covariates --exact --caliper --ratio --match --order --discard -s --set --seed --seeds' ;;
        'train') verbs='' options='--pretrain --task --task-type --init-from --freeze --data --split --folds --batch-size --epochs --steps --lr --accumulate --ema --early-stop --precision --parallel -p --preset -c --config -s --set -o --out --resume --seed --seeds --device --procs --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--pretrain --task --task-type --init-from --data --split --folds --batch-size --epochs --steps --lr --accumulate --ema --early-stop --precision --parallel -p --preset -c --config -s --set -o --out --resume --seed --seeds --device --procs' ;;
        'evaluate') verbs='' options='--data --split --part --batch-size --sliding-window --roi --overlap --blend --tta --empty --ensemble -s --set -o --out --save-predictions --embeddings --explain --device --procs --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--data --split --part --batch-size --roi --overlap --blend --empty -s --set -o --out --explain --device --procs' ;;
        'flops') verbs='' options='--input-shape --engine --tokens-kept --clips -p --preset -c --config -s --set --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--input-shape --engine --tokens-kept --clips -p --preset -c --config -s --set' ;;
        'profile') verbs='' options='--models --room --runs --mode --input-shape --stage-wise --fake --threads --warmup --trace -j --jobs -o --out -p --preset -c --config -s --set --device --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--models --room --runs --mode --input-shape --threads --warmup --trace -j --jobs -o --out -p --preset -c --config -s --set --device' ;;
        'align-genes') verbs='' options='--latents --genes --split --group --covariates --mode --gene --method --pooling --gene-input --loss --projection-dim --hidden-dim --permutations --batch-size --epochs --lr --accumulate -p --preset -c --config -s --set --seed --device -o --out --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--latents --genes --split --group --covariates --mode --gene --method --pooling --gene-input --loss --projection-dim --hidden-dim --permutations --batch-size --epochs --lr --accumulate -p --preset -c --config -s --set --seed --device -o --out' ;;
        'report') verbs='' options='-o --out --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out' ;;
        'models') verbs='list show export' options='-h --help' valued='' ;;
        'models list') verbs='' options='--room --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--room' ;;
        'models show') verbs='' options='--json -q --quiet -v --verbose --no-color --debug -h --help' valued='' ;;
        'models export') verbs='' options='-o --out --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out' ;;
        'presets') verbs='list show copy' options='-h --help' valued='' ;;
        'presets list') verbs='' options='--room --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--room' ;;
        'presets show') verbs='' options='--json -q --quiet -v --verbose --no-color --debug -h --help' valued='' ;;
        'presets copy') verbs='' options='-o --out --force --dry-run --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-o --out' ;;
        'config') verbs='show validate' options='-h --help' valued='' ;;
        'config show') verbs='' options='-p --preset -c --config -s --set --json -q --quiet -v --verbose --no-color --debug -h --help' valued='-p --preset -c --config -s --set' ;;
        'config validate') verbs='' options='--model --json -q --quiet -v --verbose --no-color --debug -h --help' valued='--model' ;;
        'doctor') verbs='' options='--self-test --json -q --quiet -v --verbose --no-color --debug -h --help' valued='' ;;
    esac
}

_neuro_value() {
    case "$1" in
        'preprocess -o' | 'preprocess --out') files=1 ;;
        'preprocess --space') words="native mni2mm" ;;
        'preprocess --mask') words="auto none" files=1 ;;
        'preprocess --metadata') files=1 ;;
        'preprocess --dtype') words="auto float32 float16" ;;
        'preprocess --frames') words="pt none" ;;
        'preprocess --figure') words="svg none" ;;
        'convert-hdf5 -o' | 'convert-hdf5 --out') files=1 ;;
        'convert-hdf5 --layout') words="dense packed" ;;
        'convert-hdf5 --compression') words="none gzip lzf zstd" ;;
        'convert-hdf5 --dtype') words="float16 int16 float32" ;;
        'convert-hdf5 --quarantine') files=1 ;;
        'split -o' | 'split --out') files=1 ;;
        'split --format') words="json swift csv nnunet" ;;
        'split --kinship') files=1 ;;
        'split --site-policy') words="mix stratify hold-out" ;;
        'split --sample') words="none random balanced stratified psm" ;;
        'split --caliper') words="none" ;;
        'split --match') words="optimal nearest psmpy" ;;
        'split --order') words="largest smallest closest random" ;;
        'split --discard') words="none both treated control" ;;
        'train --pretrain') words="$_neuro_list_objectives" ;;
        'train --task-type') words="classification regression" ;;
        'train --init-from') files=1 ;;
        'train --data') files=1 ;;
        'train --split') files=1 ;;
        'train --precision') words="fp32 bf16 fp16" ;;
        'train --parallel') words="none ddp fsdp deepspeed" ;;
        'train -p' | 'train --preset') words="$_neuro_list_presets" ;;
        'train -c' | 'train --config') files=1 ;;
        'train -s' | 'train --set') words="$_neuro_list_keys" ;;
        'train -o' | 'train --out') files=1 ;;
        'train --resume') files=1 ;;
        'train --device') words="auto cpu cuda mps xpu" ;;
        'evaluate --data') files=1 ;;
        'evaluate --split') files=1 ;;
        'evaluate --part') words="test val train all" ;;
        'evaluate --blend') words="cosine gaussian constant" ;;
        'evaluate --empty') words="brats nan zero" ;;
        'evaluate -s' | 'evaluate --set') words="$_neuro_list_keys" ;;
        'evaluate -o' | 'evaluate --out') files=1 ;;
        'evaluate --explain') words="gradients occlusion gradcam modality attribution" ;;
        'evaluate --device') words="auto cpu cuda mps xpu" ;;
        'flops --engine') words="formula torch thop deepspeed all" ;;
        'flops -p' | 'flops --preset') words="$_neuro_list_presets" ;;
        'flops -c' | 'flops --config') files=1 ;;
        'flops -s' | 'flops --set') words="$_neuro_list_keys" ;;
        'profile --room') words="$_neuro_list_rooms" ;;
        'profile --mode') words="train inference both" ;;
        'profile --trace') files=1 ;;
        'profile -o' | 'profile --out') files=1 ;;
        'profile -p' | 'profile --preset') words="$_neuro_list_presets" ;;
        'profile -c' | 'profile --config') files=1 ;;
        'profile -s' | 'profile --set') words="$_neuro_list_keys" ;;
        'profile --device') words="auto cpu cuda mps xpu" ;;
        'align-genes --latents') files=1 ;;
        'align-genes --genes') files=1 ;;
        'align-genes --split') files=1 ;;
        'align-genes --group') files=1 ;;
        'align-genes --mode') words="single sequence sweep" ;;
        'align-genes --pooling') words="mean max cls" ;;
        'align-genes --gene-input') words="shared per-gene" ;;
        'align-genes --loss') words="clip siglip" ;;
        'align-genes -p' | 'align-genes --preset') words="$_neuro_list_presets" ;;
        'align-genes -c' | 'align-genes --config') files=1 ;;
        'align-genes -s' | 'align-genes --set') words="$_neuro_list_keys" ;;
        'align-genes --device') words="auto cpu cuda mps xpu" ;;
        'align-genes -o' | 'align-genes --out') files=1 ;;
        'report -o' | 'report --out') files=1 ;;
        'models list --room') words="$_neuro_list_rooms" ;;
        'models export -o' | 'models export --out') files=1 ;;
        'presets list --room') words="$_neuro_list_rooms" ;;
        'presets copy -o' | 'presets copy --out') files=1 ;;
        'config show -p' | 'config show --preset') words="$_neuro_list_presets" ;;
        'config show -c' | 'config show --config') files=1 ;;
        'config show -s' | 'config show --set') words="$_neuro_list_keys" ;;
        'config validate --model') words="$_neuro_list_models" ;;
    esac
}

_neuro_argument() {
    case "$1 $2" in
        'preprocess '0) words="$_neuro_list_datasets" ;;
        'preprocess '*) files=1 ;;
        'convert-hdf5 '0) files=1 ;;
        'split '0) files=1 ;;
        'train '*) words="$_neuro_list_models" ;;
        'evaluate '*) files=1 ;;
        'flops '0) words="$_neuro_list_models $_neuro_list_presets" files=1 ;;
        'profile '*) words="$_neuro_list_models $_neuro_list_presets" files=1 ;;
        'report '*) files=1 ;;
        'models show '0) words="$_neuro_list_models" ;;
        'models export '0) files=1 ;;
        'presets show '0) words="$_neuro_list_presets" ;;
        'presets copy '0) words="$_neuro_list_presets" ;;
        'presets copy '1) files=1 ;;
        'config show '0) words="$_neuro_list_models" ;;
        'config validate '0) files=1 ;;
    esac
}

_neuro() {
    local current=${COMP_WORDS[COMP_CWORD]} path= verbs= options= valued= option= word skip= place=0
    local words= files=
    [[ $current == = ]] && current=
    _neuro_page ""
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == = ]]; then
            [[ -z $skip ]] && option=
            skip=1
        elif [[ -n $skip ]]; then
            skip=
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && skip=1 option=$word
        elif [[ -n $verbs ]]; then
            path=${path:+$path }$word
            _neuro_page "$path"
        else
            place=$((place + 1))
        fi
    done
    if [[ -n $skip ]]; then
        [[ -n $option ]] && _neuro_value "$path $option"
    elif [[ $current == -* ]]; then
        words=$options
    elif [[ -n $verbs ]]; then
        words=$verbs
    else
        _neuro_argument "$path" "$place"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        local IFS=$'\n'
        COMPREPLY+=($(compgen -f -- "$current"))
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _neuro neuro
